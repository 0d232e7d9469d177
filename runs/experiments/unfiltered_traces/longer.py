"""Sums of more digits than any practised one, answered by a run's last model.

`ask` is a `Study.extra`: it samples what the probe set does not hold. Numbers of four
digits are in none of the world's texts, not even in pretraining; the strategies know no limit.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import afterwards
from ouroloop.loop.experiments.afterwards import serve, setting_of
from ouroloop.loop.experiments.study import arm_of
from ouroloop.loop.folder.store import write_json
from ouroloop.loop.records import Problem, Request, Sampling
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.prompts import ask as prompt_of
from ouroloop.loop.stages.refine import derive_seed, gather_bounded
from ouroloop.loop.views.reader import read_run

# The arm whose runs also ask the starting model, which all arms share.
FIRST = "gold_traces"

DIGITS = (2, 3, 4)
PROBLEMS, SAMPLES = 24, 4

# The longest trace of four digits takes about 80 tokens; an answer that runs on is wrong.
MAX_TOKENS = 128

Answer = dict[str, Any]


@cache
def problems(digits: int) -> tuple[Problem, ...]:
    """The same for every run: held-out pairs of numbers of that many digits."""
    rng = random.Random(f"longer/{digits}")
    family = "sum2" if digits == 2 else "sum3"
    low, high = 10 ** (digits - 1), 10**digits - 1
    found: dict[str, Problem] = {}
    while len(found) < PROBLEMS:
        a, b = rng.randint(low, high), rng.randint(low, high)
        # 10 is below the world's smallest number.
        if min(a, b) > 10 and world.split_of(family, a, b) == "heldout":
            item = world.problem(family, a, b, rng)
            found.setdefault(item.id, item)
    return tuple(found.values())


async def ask(path: Path, engine: Engine) -> None:
    """Write `longer-<round>.json` of the last round into the run folder, unless it is there.

    In runs of the arm `FIRST` that of round 0 too.
    """
    run, setting = read_run(path), setting_of(path)
    last = run.rounds[-1].number
    for number in (0, last) if arm_of(path) == FIRST else (last,):
        target = afterwards.file_of(path, "longer", number)
        if not target.exists():
            await serve(engine, run, number)
            write_json(target, await _answers(engine, setting, number))


def read(path: Path, number: int) -> list[Answer]:
    """A round's answers; none where nobody asked."""
    return afterwards.read(path, "longer", number)


async def _answers(engine: Engine, setting: Setting, number: int) -> list[Answer]:
    """`SAMPLES` at the probe's temperature and a greedy one (index -1) of every problem."""

    async def one(digits: int, problem: Problem, index: int) -> Answer:
        temperature = setting.recipe.probe.temperature if index >= 0 else 0.0
        answer = await engine.complete(
            Request(
                f"{number:03d}/longer/{problem.id}/{index}",
                prompt_of(setting.prompts, problem),
                Sampling(temperature=temperature, max_tokens=MAX_TOKENS),
                derive_seed(setting.recipe.seed, number, problem.id, "longer", index),
            )
        )
        return {"digits": digits, "problem": problem.id, "index": index, "text": answer.text}

    jobs = [one(d, p, i) for d in DIGITS for p in problems(d) for i in range(-1, SAMPLES)]
    return await gather_bounded(jobs, setting.recipe.engine.concurrency)
