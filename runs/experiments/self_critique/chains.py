"""Drafts of a run's models, criticised and revised in every way at once, beside the truth.

`look` is a `Study.extra`: of the last model (and, in one arm, of the starting model) it samples
what the loop does not: chains on every family with steps, the same drafts revised with and
without a critique, and the verdicts of the starting model's critic, a frozen judge, on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Task
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import afterwards
from ouroloop.loop.experiments.afterwards import serve, setting_of
from ouroloop.loop.experiments.study import arm_of
from ouroloop.loop.folder.store import write_json
from ouroloop.loop.records import Completion, Critique, Problem
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.refine import Refiner, gather_bounded
from ouroloop.loop.views.reader import read_run

# The arm whose runs also look at the starting model, which all arms of a seed share.
FIRST = "gold_drafts"

# Drafts of each problem: of the starting model, whom no other arm looks at, and of the last one.
DRAFTS, LAST_DRAFTS = 3, 1

# The loop's two ways to revise, whatever the arm itself does. `filters.critic` would ask for a
# critique of the revision too.
ANSWERING = {"critique": True, "revisions": 1, "revise_when": "rejected"}
DIRECT = {"critique": False, "revisions": 1, "revise_when": "always"}

Chain = dict[str, Any]


async def look(path: Path, engine: Engine) -> None:
    """Write `chains-<round>.json` of the last round into the run folder, unless it is there.

    In runs of the arm `FIRST` that of round 0 too.
    """
    run, setting = read_run(path), setting_of(path)
    last = run.rounds[-1].number
    asked = [0, last] if arm_of(path) == FIRST else [last]
    for number in asked:
        target = afterwards.file_of(path, "chains", number)
        if not target.exists():
            await serve(engine, run, number)
            drafted = await _drafted(engine, setting, number, LAST_DRAFTS if number else DRAFTS)
            # The frozen judge is the model that the run started from; round 0 judges itself.
            await serve(engine, run, 0)
            write_json(target, await _judged(engine, setting, number, drafted))


def read(path: Path, number: int) -> list[Chain]:
    """A round's chains; none where nobody looked."""
    return list(afterwards.read(path, "chains", number))


async def _drafted(
    engine: Engine, setting: Setting, number: int, num: int
) -> list[tuple[Chain, Problem, Completion]]:
    """Each draft's chain, so far without the frozen judge, with what that is to judge."""
    answering, direct = (_refiner(engine, setting, number, way) for way in (ANSWERING, DIRECT))

    async def one(problem: Problem, index: int) -> tuple[Chain, Problem, Completion]:
        # Both ways hash the same seed for the draft: it is the same text.
        answered = await answering.sample(problem, index)
        directly = await direct.sample(problem, index)
        own = answered.critiques[0] if answered.critiques else None
        chain = {
            "problem": problem.id,
            "family": problem.family,
            "slice": problem.slice,
            "right": right(setting.task, problem, answered.draft.text),
            "revised": bool(answered.revisions),
            "answering": right(setting.task, problem, answered.final.text),
            "direct": right(setting.task, problem, directly.final.text),
            "sound": sound(setting.task, problem, answered.draft.text),
            **_verdict("own", own),
        }
        return chain, problem, answered.draft

    # The skills are answered without steps: pretraining criticised and revised none of them.
    asked = [p for p in setting.probe_set.problems if p.family not in world.SKILLS]
    jobs = [one(problem, i) for problem in asked for i in range(num)]
    return await gather_bounded(jobs, setting.recipe.engine.concurrency)


async def _judged(
    engine: Engine,
    setting: Setting,
    number: int,
    drafted: Sequence[tuple[Chain, Problem, Completion]],
) -> list[Chain]:
    """The chains with the frozen judge's verdicts."""
    judge = _refiner(engine, setting, number, ANSWERING)

    async def one(index: int, chain: Chain, problem: Problem, draft: Completion) -> Chain:
        critique = None
        # What was cut has no end to judge; the loop does not criticise it either.
        if draft.finish_reason == "stop":
            critique = await judge.criticise(problem, index, draft, stage="critique_frozen")
        return {**chain, **_verdict("frozen", critique)}

    jobs = [one(i, *each) for i, each in enumerate(drafted)]
    return await gather_bounded(jobs, setting.recipe.engine.concurrency)


def _refiner(engine: Engine, setting: Setting, number: int, way: Mapping[str, Any]) -> Refiner:
    """The run's own sampling with another way to refine."""
    recipe = setting.recipe.model_copy(
        update={
            "refine": setting.recipe.refine.model_copy(update=dict(way)),
            "filters": setting.recipe.filters.model_copy(update={"critic": False}),
        }
    )
    temperatures = recipe.sampling.temperatures
    return Refiner(engine, recipe, setting.prompts, number, temperatures, source="study")


def _verdict(who: str, critique: Critique | None) -> dict[str, float | None]:
    """A critic's verdict and P(approve); None where there is none."""
    approved = None
    if critique is not None and critique.approved is not None:
        approved = float(critique.approved)
    return {
        f"{who}_approved": approved,
        f"{who}_probability": None if critique is None else critique.probability,
    }


def right(task: Task, problem: Problem, text: str) -> float:
    """Whether the final answer is right."""
    return float(task.grade(problem, text).correct is True)


def sound(task: Task, problem: Problem, text: str) -> float:
    """What a critic should approve: a right answer by right steps, as far as steps can be checked.

    The loop's own critic calibration has the same truth (`loop/stages/probe.py`).
    """
    if not right(task, problem, text):
        return 0.0
    return float(task.check_steps(problem, text).valid is not False)
