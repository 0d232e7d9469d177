"""Planted items of known truth, judged exactly as the filter judges a sample of the round.

What the verifier lets through, and what it turns away.

Only gates that look at one sample at a time are tried. The critic is asked by the model that
samples in this round; a gate that compares a problem's samples (agreement, duplicates, caps) has no
say about a single text. The truth is the plant's own: no gold answer is used here, and a filter
without gold answers does not get to see one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from ouroloop.evals.tasks import Task
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.records import Completion, Critique, Draft, Problem, Sample
from ouroloop.loop.stages import constitution, filters
from ouroloop.loop.stages.judging import PASSING
from ouroloop.loop.stages.prompts import render
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded
from ouroloop.monitors.fence import Unreadable, attempt

Kind = Literal["right", "wrong_answer", "wrong_step"]
KINDS: tuple[Kind, ...] = ("right", "wrong_answer", "wrong_step")
SCHEMA = pa.schema(
    {
        "problem": pa.string(),
        "kind": pa.string(),
        "right": pa.float64(),
        "accepted": pa.float64(),
        "reasons": pa.list_(pa.string()),
        "approved": pa.float64(),
        "probability": pa.float64(),
        "text": pa.string(),
        "unreadable": pa.list_(pa.string()),
    }
)


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

    A wrong step is planted only where a gate claims to look at steps: `steps` or `critic`.
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
    refiner: Refiner, demonstrations: Sequence[Problem], task: Task, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of audit.parquet. Seeds do not depend on the round.

    So a change between rounds is the verifier's own.

    accepted is null where the critic could not be asked, because the text leaves no room for a
    critique.
    """
    config, refiner = refiner.recipe.filters, replace(refiner, round=0)
    planted, done = plant(demonstrations, task, config), 0
    items = [item for item in planted if item.unreadable is None]

    async def one(item: Planted, prompt_ids: list[int], ids: list[int]) -> Sample:
        nonlocal done
        text = Completion("", tuple(prompt_ids), tuple(ids), (), item.text, "stop", "")
        critiques = (await _criticise(refiner, item, text),) if config.critic else ()
        done += 1
        progress("trying the verifier", done, len(items))
        return Sample(
            f"canary/{item.problem.id}/{item.kind}",
            item.problem.id,
            KINDS.index(item.kind),
            0.0,
            Draft(text),
            critiques,
        )

    prompts = refiner.prompts
    pairs = [
        (render(prompts, prompts.draft, question=item.problem.question), item.text)
        for item in items
    ]
    encoded = await refiner.engine.encode(pairs) if pairs else []
    samples = await gather_bounded(
        [one(item, *ids) for item, ids in zip(items, encoded, strict=True)],
        refiner.recipe.engine.concurrency,
    )
    cases = filters.examine(
        samples, {p.id: p for p in demonstrations}, task, lambda problem, text: None
    )
    gates = filters.single_gates(config)
    judged = [
        _row(item, case, [gate.name for gate in gates if gate.objects(case)])
        for item, case in zip(items, cases, strict=True)
    ]
    return judged + [
        _not_planted(item, item.unreadable) for item in planted if item.unreadable is not None
    ]


async def _criticise(refiner: Refiner, item: Planted, text: Completion) -> Critique:
    index = KINDS.index(item.kind)
    principle = constitution.draw(
        refiner.principles,
        derive_seed(refiner.recipe.seed, 0, item.problem.id, "principle_canary", index),
    )
    return await refiner.criticise(item.problem, index, text, principle, "critique_canary")


def _row(item: Planted, case: filters.Case, reasons: list[str]) -> dict[str, Any]:
    critique = case.sample.critiques[-1] if case.sample.critiques else None
    judged = critique is None or bool(critique.completion.prompt_token_ids)
    return {
        "problem": item.problem.id,
        "kind": item.kind,
        "right": float(item.kind == "right"),
        "accepted": float(not reasons) if judged else None,
        "reasons": reasons if judged else [],
        "approved": (
            None if critique is None or critique.approved is None else float(critique.approved)
        ),
        "probability": critique.probability if critique else None,
        "text": item.text,
        "unreadable": [failure.label for failure in case.unreadable.values()],
    }


def _not_planted(item: Planted, failure: Unreadable) -> dict[str, Any]:
    """The row of an item that the corrupter could not make.

    Nothing was judged, so `accepted` is null.
    """
    return {
        "problem": item.problem.id,
        "kind": item.kind,
        "right": 0.0,
        "accepted": None,
        "reasons": [],
        "approved": None,
        "probability": None,
        "text": "",
        "unreadable": [failure.label],
    }
