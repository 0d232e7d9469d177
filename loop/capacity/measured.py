"""What an earlier run showed: its rates, its texts, and how much of them it kept and wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ouroloop.loop.costs import Purpose, estimand_of
from ouroloop.loop.errors import UserError
from ouroloop.loop.folder.integrity import CHECKPOINT
from ouroloop.loop.views.reader import Json, RoundData, RunData

# Which purposes' tokens a stage of progress works on.
SAMPLING_STAGES = {
    "sampling": (Purpose.DRAFTS, Purpose.CRITIQUES, Purpose.REVISIONS),
    "probing": (Purpose.PROBE,),
}
SCORING_STAGES, TRAINING_STAGE = ("scoring texts", "scoring traces"), "training"


@dataclass(frozen=True)
class Measured:
    """None: not known, and a bound of the recipe's stands for it.

    Attributes:
        about: where it is from.
        sampling_rate: tokens a second, prompts read included, one engine.
        scoring_rate: tokens a second of fixed texts.
        training_rate: tokens a second, forwards and backwards.
        overhead_seconds: of a round, beside sampling, scoring and training steps: processes that
            start, weights that load, readings, decisions.
        start_seconds: once, before round 0 samples.
        draft_tokens, critique_tokens, revision_tokens, probe_tokens, judge_tokens: mean of a text.
        critiques_per_draft, revisions_per_draft: how many.
        kept_share: examples that were trained on, per draft.
        example_tokens: mean of one, its prompt included.
        bytes_per_token: of the run's files without checkpoints, per sampled token.
    """

    about: str = "nothing: every number is the recipe's own bound"
    sampling_rate: float | None = None
    scoring_rate: float | None = None
    training_rate: float | None = None
    overhead_seconds: float | None = None
    start_seconds: float | None = None
    draft_tokens: float | None = None
    critique_tokens: float | None = None
    revision_tokens: float | None = None
    probe_tokens: float | None = None
    judge_tokens: float | None = None
    critiques_per_draft: float | None = None
    revisions_per_draft: float | None = None
    kept_share: float | None = None
    example_tokens: float | None = None
    bytes_per_token: float | None = None

    def but(self, **given: float | None) -> Measured:
        """With what was given on the command line in the place of what was measured."""
        known: dict[str, Any] = {name: x for name, x in given.items() if x is not None}
        return replace(self, **known)

    def to_json(self) -> Json:
        """A calibration file: what `from_file` reads."""
        return asdict(self)


def from_file(path: Path) -> Measured:
    """A calibration file, or the output of `ouroloop plan --hardware --json`, which holds one.

    Raises:
        UserError: it is neither.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw = raw.get("measured", raw)
        return Measured(**raw)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        names = ", ".join(field.name for field in fields(Measured))
        raise UserError(f"--from {path}: {error}. Expected a run, or JSON of {names}.") from error


def from_run(run: RunData) -> Measured:
    """What a run shows in its rounds from 1 on; round 0 only sets up.

    Raises:
        UserError: no such round is finished, or none counted its tokens.
    """
    rounds = [round for round in run.rounds if round.number > 0]
    if not rounds or math.isnan(_cost(rounds, Purpose.DRAFTS).tokens):
        raise UserError(
            f"--from {run.path}: no round of it has counted its tokens; expected a run of this"
            " version with a finished round 1."
        )
    spans = {round.number: list(_spans(run.events, round.number)) for round in rounds}
    drafts = _cost(rounds, Purpose.DRAFTS)
    critiques, revisions = _cost(rounds, Purpose.CRITIQUES), _cost(rounds, Purpose.REVISIONS)
    trained = [round for round in rounds if round.train.get("status") == "trained"]
    num_examples = _of_training(trained, "num_examples")
    worked = [sum(span.seconds for span in spans[round.number]) for round in rounds]
    took = [run.seconds(round.number) for round in rounds]
    found = Measured(
        about=f"rounds {rounds[0].number} to {rounds[-1].number} of the run {run.name}",
        sampling_rate=_rate(_sampling(rounds, spans)),
        scoring_rate=_rate(_scored(rounds, spans)),
        training_rate=_rate(_trained(trained, spans, run.recipe)),
        overhead_seconds=(sum(took) - sum(worked)) / len(rounds),
        start_seconds=_loading(run),
        draft_tokens=drafts.each,
        critique_tokens=critiques.each,
        revision_tokens=revisions.each,
        probe_tokens=_cost(rounds, Purpose.PROBE).each,
        judge_tokens=_cost(rounds, Purpose.JUDGE).each,
        critiques_per_draft=critiques.texts / drafts.texts if drafts.texts else None,
        revisions_per_draft=revisions.texts / drafts.texts if drafts.texts else None,
        kept_share=num_examples / drafts.texts if drafts.texts else None,
        example_tokens=_of_training(trained, "num_tokens") / num_examples if num_examples else None,
        bytes_per_token=_table_bytes(run) / _sampled(run),
    )
    # What a run of an earlier version did not count is not known.
    known = {name: x for name, x in vars(found).items() if x == x}
    return Measured(**known)


class Cost(NamedTuple):
    """Tokens in how many texts."""

    tokens: float
    texts: int

    @property
    def each(self) -> float | None:
        """Mean of a text."""
        return self.tokens / self.texts if self.texts else None


class Span(NamedTuple):
    """A stage between its first and its last sign of progress, and the share of it in between."""

    stage: str
    seconds: float
    share: float


def _cost(rounds: Sequence[RoundData], purpose: Purpose) -> Cost:
    tokens, texts = 0.0, 0
    for round in rounds:
        found = round.find(estimand_of(purpose))
        tokens += math.nan if found is None else found.value
        texts += 0 if found is None else int(found.details.get("texts", 0))
    return Cost(tokens, texts)


def _spans(events: Sequence[Json], number: int) -> Iterator[Span]:
    """The stages of a round. What comes before a stage's first sign is overhead."""
    by_stage: dict[str, list[Json]] = {}
    inside = False
    for event in events:
        if event.get("event") == "round_started":
            inside = event.get("round") == number
            # A round that was cut off began again: only its last attempt is timed.
            by_stage = {} if inside else by_stage
        if inside and event.get("event") == "progress":
            by_stage.setdefault(str(event.get("stage")), []).append(event)
    for stage, found in by_stage.items():
        first, last = found[0], found[-1]
        if last["done"]:
            share = (last["done"] - first["done"]) / last["done"]
            yield Span(stage, float(last["time"] - first["time"]), share)


Work = Iterator[tuple[float, float]]
"""Tokens and seconds."""


def _sampling(rounds: Sequence[RoundData], spans: dict[int, list[Span]]) -> Work:
    for round in rounds:
        for span in spans[round.number]:
            if span.stage in SAMPLING_STAGES:
                costs = [_cost([round], purpose) for purpose in SAMPLING_STAGES[span.stage]]
                yield span.share * sum(cost.tokens for cost in costs), span.seconds


def _scored(rounds: Sequence[RoundData], spans: dict[int, list[Span]]) -> Work:
    for round in rounds:
        found = [span.seconds for span in spans[round.number] if span.stage in SCORING_STAGES]
        yield _cost([round], Purpose.SCORED).tokens, sum(found)


def _trained(rounds: Sequence[RoundData], spans: dict[int, list[Span]], recipe: Json) -> Work:
    for round in rounds:
        epochs = epochs_of(recipe, str(round.objective))
        for span in spans[round.number]:
            if span.stage == TRAINING_STAGE:
                yield span.share * epochs * float(round.train.get("num_tokens", 0)), span.seconds


def epochs_of(recipe: Json, objective: str) -> float:
    """Times that a round reads its examples; transformers' own number is 3."""
    section: dict[str, Any] = recipe.get("dpo" if objective == "dpo" else "sft") or {}
    return float(section.get("num_train_epochs", 3))


def _rate(work: Work) -> float | None:
    pairs = list(work)
    tokens, seconds = sum(t for t, _ in pairs), sum(s for _, s in pairs)
    return tokens / seconds if tokens and seconds else None


def _of_training(trained: Sequence[RoundData], key: str) -> float:
    return sum(float(round.train.get(key, 0)) for round in trained)


def _loading(run: RunData) -> float | None:
    """From the run's start to the end of the first load."""
    loaded = [e["time"] for e in run.events if e.get("stage") == "loading" and e.get("done")]
    started = [e["time"] for e in run.events if e.get("event") == "run_started"]
    return float(loaded[0] - started[0]) if loaded and started else None


def _table_bytes(run: RunData) -> int:
    files = (path for path in run.path.rglob("*") if path.is_file())
    return sum(p.stat().st_size for p in files if CHECKPOINT not in p.relative_to(run.path).parts)


def _sampled(run: RunData) -> float:
    purposes = [p for p in Purpose if p is not Purpose.SCORED]
    return sum(_cost(run.rounds, purpose).tokens for purpose in purposes)
