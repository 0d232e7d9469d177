"""Real texts that no training ever sees, scored under every round's model.

What the model has become on data that it did not write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Prompts
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Problem, Scored
from ouroloop.loop.rows import TextRow
from ouroloop.loop.stages.prompts import answered
from ouroloop.loop.stages.refine import Progress


@dataclass(frozen=True)
class HeldOut:
    """The reserve, divided.

    Attributes:
        texts: to be scored.
        audit_items: to be planted; may overlap with `texts`.
        rest: what may still be replayed.
    """

    texts: tuple[Problem, ...]
    audit_items: tuple[Problem, ...]
    rest: tuple[Problem, ...]

    @property
    def questions(self) -> frozenset[str]:
        """Normalised questions that training must not see."""
        return frozenset(normalised(p.question) for p in (*self.texts, *self.audit_items))


def hold_out(reserve: Sequence[Problem], config: ProbeConfig, families: Collection[str]) -> HeldOut:
    """Take `probe.texts` and `probe.audit_items` demonstrations out of the reserve.

    The same ones in every run: by hash, one per subject.

    At most half of the subjects are taken. Audit items are of `families`, those that the loop
    practises on, where the reserve has any. What asks about a held-out subject, in whatever words,
    leaves the reserve with it.
    """
    by_subject: dict[tuple[str, ...], Problem] = {}
    for problem in sorted((p for p in reserve if p.solution), key=_order):
        by_subject.setdefault(_subject(problem), problem)
    # Half at most: replay needs demonstrations too.
    free = list(by_subject.values())[: len(by_subject) // 2]
    texts = free[: config.texts]
    practised = [p for p in free if p.family in families] or free
    audit_items = practised[: config.audit_items]
    # Held out with all that asks about the same numbers: another wording would teach the answer.
    taken = {_subject(p) for p in (*texts, *audit_items)}
    rest = [p for p in reserve if _subject(p) not in taken]
    return HeldOut(tuple(texts), tuple(audit_items), tuple(rest))


def _subject(problem: Problem) -> tuple[str, ...]:
    """What a question asks about: its numbers, whatever their order and the wording.

    Without numbers the question itself.
    """
    return tuple(sorted(re.findall(r"\d+", problem.question))) or (normalised(problem.question),)


def _order(problem: Problem) -> str:
    # An order only, and the one that runs have always had: another spelling of the question here
    # would hold out other texts than the runs that a new one is compared with.
    question = " ".join(problem.question.split()).rstrip(".?!").lower()
    return hashlib.sha256(f"{question}|{problem.solution}".encode()).hexdigest()


async def measure(
    engine: Engine, prompts: Prompts, texts: Sequence[Problem], report: Progress
) -> list[TextRow]:
    """Each demonstration as the answer to its question.

    Token by token under the model that the engine serves.
    """
    if not texts:
        return []
    report("scoring texts", 0, len(texts))
    pairs = [answered(prompts, text, text.solution or "") for text in texts]
    scored = await engine.score(pairs)
    report("scoring texts", len(texts), len(texts))
    return [_row(text, found) for text, found in zip(texts, scored, strict=True)]


def _row(problem: Problem, scored: Scored) -> TextRow:
    """Means over the tokens; None where the text did not fit into the engine's context."""
    row = TextRow(problem.id, problem.family, None, None, None, None, problem.solution)
    count = len(scored.logprobs)
    if not count:
        return row
    return replace(
        row,
        nll=-sum(scored.logprobs) / count,
        entropy=sum(scored.entropies) / count,
        exact=scored.exact,
        num_tokens=float(count),
    )
