"""The verifier audit: planted items of known truth, judged as the filters judge a sample.

What the verifier lets through, and what it turns away.

Only filters that look at one sample at a time are tried. The critic is asked by the model that
samples in this round; a filter that compares a problem's samples (agreement, duplicates, caps) has
no say about a single text. The truth is the plant's own: no gold answer is used here, and a filter
without gold answers does not get to see one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ouroloop.evals.tasks import Task
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.records import Completion, Critique, Problem, Sample
from ouroloop.loop.rows import AuditRow
from ouroloop.loop.stages import constitution, filters
from ouroloop.loop.stages.case import Case, examine
from ouroloop.loop.stages.judging import PASSING
from ouroloop.loop.stages.prompts import answered
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded
from ouroloop.monitors.fence import Unreadable, attempt

Kind = Literal["right", "wrong_answer", "wrong_step"]
KINDS: tuple[Kind, ...] = ("right", "wrong_answer", "wrong_step")


@dataclass(frozen=True)
class Planted:
    """A text whose truth is known. right: a demonstration. wrong_answer: it with a slip.

    Wrong_step: the right answer by a wrong step.

    unreadable: why the corrupter made no text of the demonstration; such an item is written down,
    not judged.
    """

    problem: Problem
    kind: Kind
    text: str
    unreadable: Unreadable | None = None


def plant(demonstrations: Sequence[Problem], task: Task, config: FilterConfig) -> list[Planted]:
    """The items, the same in every round.

    A wrong step is planted only where a filter claims to look at steps: `steps` or `critic`.
    """
    items = []
    for problem in demonstrations:
        right = problem.solution or ""
        texts: dict[Kind, str | Unreadable | None] = {
            "right": right,
            "wrong_answer": _corrupted(task, problem, right, keep_answer=False),
        }
        if config.steps or config.critic:
            texts["wrong_step"] = _corrupted(task, problem, right, keep_answer=True)
        for kind, text in texts.items():
            if isinstance(text, Unreadable):
                items.append(Planted(problem, kind, "", text))
            elif text is not None:
                items.append(Planted(problem, kind, text))
    return items


def _corrupted(
    task: Task, problem: Problem, right: str, keep_answer: bool
) -> str | Unreadable | None:
    return attempt(
        f"{task.name} corrupter", task.corrupt, problem, right, 0, keep_answer, passing=PASSING
    )


async def judge(
    refiner: Refiner, demonstrations: Sequence[Problem], task: Task, report: Progress
) -> list[AuditRow]:
    """Plant the items and judge them.

    Seeds do not depend on the round, so a change between rounds is the verifier's own.
    """
    # Round 0 in every request id, hence the same seeds in every round.
    config, refiner = refiner.recipe.filters, replace(refiner, round=0)
    planted, done = plant(demonstrations, task, config), 0
    items = [item for item in planted if item.unreadable is None]
    if items:
        report("trying the verifier", done, len(items))

    async def one(item: Planted, prompt_ids: list[int], ids: list[int]) -> Sample:
        nonlocal done
        sample = _as_sample(item, prompt_ids, ids)
        if config.critic:
            critique = await _criticise(refiner, item, sample.draft)
            sample = replace(sample, critiques=(critique,))
        done += 1
        report("trying the verifier", done, len(items))
        return sample

    encoded = await _encoded(refiner, items)
    samples = await gather_bounded(
        [one(item, *ids) for item, ids in zip(items, encoded, strict=True)],
        refiner.recipe.engine.concurrency,
    )
    # No strategy is named: caps per strategy compare samples, and are not tried here.
    problems = {problem.id: problem for problem in demonstrations}
    cases = examine(samples, problems, task, lambda problem, text: None)
    tried = filters.single_filters(config)
    judged = [
        _row(item, case, [each.name for each in tried if each.objects(case)])
        for item, case in zip(items, cases, strict=True)
    ]
    return judged + [
        _not_planted(item, item.unreadable) for item in planted if item.unreadable is not None
    ]


async def _encoded(refiner: Refiner, items: Sequence[Planted]) -> list[tuple[list[int], list[int]]]:
    prompts = refiner.prompts
    pairs = [answered(prompts, item.problem, item.text) for item in items]
    return await refiner.engine.encode(pairs) if pairs else []


def _as_sample(item: Planted, prompt_ids: list[int], ids: list[int]) -> Sample:
    text = Completion("", tuple(prompt_ids), tuple(ids), (), item.text, "stop", "")
    return Sample(
        id=f"audit/{item.problem.id}/{item.kind}",
        problem_id=item.problem.id,
        index=KINDS.index(item.kind),
        temperature=0.0,
        draft=text,
    )


async def _criticise(refiner: Refiner, item: Planted, text: Completion) -> Critique:
    # The stage names are part of every request's seed: renaming one would draw every audit anew.
    index = KINDS.index(item.kind)
    seed = derive_seed(refiner.recipe.seed, 0, item.problem.id, "principle_canary", index)
    principle = constitution.draw(refiner.principles, seed)
    return await refiner.criticise(item.problem, index, text, principle, "critique_canary")


def _row(item: Planted, case: Case, reasons: list[str]) -> AuditRow:
    row = AuditRow(
        problem=item.problem.id,
        kind=item.kind,
        right=float(item.kind == "right"),
        accepted=float(not reasons),
        reasons=tuple(reasons),
        approved=None,
        probability=None,
        text=item.text,
        unreadable=tuple(failure.label for failure in case.unreadable.values()),
        num_tokens=float(sum(len(c.completion.token_ids) for c in case.sample.critiques)),
    )
    for critique in case.sample.critiques[-1:]:
        if critique.approved is not None:
            row = replace(row, approved=float(critique.approved))
        row = replace(row, probability=critique.probability)
        # A critique without a prompt is one for which there was no room: no verdict.
        if not critique.completion.prompt_token_ids:
            row = replace(row, accepted=None, reasons=())
    return row


def _not_planted(item: Planted, failure: Unreadable) -> AuditRow:
    """The row of an item that the corrupter could not make: nothing was judged."""
    return AuditRow(
        problem=item.problem.id,
        kind=item.kind,
        right=0.0,
        accepted=None,
        reasons=(),
        approved=None,
        probability=None,
        text="",
        unreadable=(failure.label,),
        num_tokens=0.0,
    )
