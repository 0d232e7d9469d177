"""Falls judged again by many fresh samples.

The probe set is too small to show whether a model had truly fallen before a warning. `look_again`
is a `Study.extra`: it asks the main family of the probe set again, with the run's own sampling, in
round 0 and in every round that ended too early for a late warning to be excused and that looked
worse than round 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.afterwards import file_of, serve, setting_of
from ouroloop.loop.experiments.tables import Rows, alarmed
from ouroloop.loop.folder.store import read_json, write_json
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.refine import Refiner, gather_bounded
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.estimators.stats import paired
from ouroloop.monitors.estimators.ustatistics import pass_at_k

# Fresh samples of a model over all problems.
#
# For the given problems, the difference of two rounds' pass@1 is then known to about 0.6 points
# (two standard errors). The interval that is shown is of problems drawn anew, and wider.
SAMPLES = 36_000

# Points that count as the fall that a warning should come before.
FALL = 0.02
FALLING = ("pass_1", "tail_pass_k")

# What a second look adds to a round.
#
# Both scores, and how pass@1 changed since round 0, paired by problem.
COLUMNS = (
    "fresh_pass_1",
    "fresh_tail_pass_k",
    "fresh_change",
    "fresh_change_low",
    "fresh_change_high",
)


def doubtful(run: Rows) -> list[int]:
    """Rounds from which on a warning would have been too late, had they truly fallen.

    Only those in which one of `FALLING` was measured below round 0.
    """
    alarm = alarmed(run)
    late = [row for row in run[1:] if math.isnan(alarm) or row["round"] + 1 < alarm]
    return [int(row["round"]) for row in late if any(row[name] < run[0][name] for name in FALLING)]


def fell(run: Rows) -> float:
    """The first round in which pass@1 or the tail's pass@k was `FALL` below round 0; NaN: never.

    By fresh samples where there was a second look, otherwise as the probe saw it.
    """
    for row in run[1:]:
        fresh = not math.isnan(row.get("fresh_pass_1", math.nan))
        now, before = (scores(r, fresh) for r in (row, run[0]))
        if any(now[name] < before[name] - FALL for name in FALLING):
            return float(row["round"])
    return math.nan


def below_best(run: Rows) -> float:
    """The first round in which one of them was seen `FALL` below its best so far; NaN: never.

    The best of several estimates is too high, so that an early fall from it may be sampling noise.
    """
    level = scores(run[0])
    for row in run[1:]:
        now = scores(row)
        if any(now[name] < level[name] - FALL for name in FALLING):
            return float(row["round"])
        level = {name: max(level[name], now[name]) for name in FALLING}
    return math.nan


def scores(row: Mapping[str, Any], fresh: bool = False) -> dict[str, float]:
    """What may fall, as the probe saw it or by fresh samples."""
    return {name: float(row[f"fresh_{name}" if fresh else name]) for name in FALLING}


async def look_again(path: Path, engine: Engine) -> None:
    """Draw the samples that `table` reads, unless they are there."""
    run = read_run(path)
    asked = doubtful(rounds.table(path))
    if run.recipe["monitors"]["guard"] or not asked:
        return
    setting = setting_of(path)
    for number in (0, *asked):
        if not _file(path, number).exists():
            await serve(engine, run, number)
            write_json(_file(path, number), await _right(engine, setting, number))


async def _right(engine: Engine, setting: Setting, number: int) -> dict[str, int]:
    """Problem of the main family -> how many fresh samples are right, as many of each."""
    recipe, task = setting.recipe, setting.task
    chosen = [p for p in setting.probe_set.problems if p.family == setting.probe_set.main]
    num = SAMPLES // len(chosen)
    refiner = Refiner(engine, recipe, setting.prompts, number, (1.0,), source="second look")

    async def one(problem: Problem) -> int:
        answers = await gather_bounded(
            [refiner.probe(problem, i, recipe.probe.temperature) for i in range(num)], num
        )
        return sum(task.grade(problem, answer.text).correct is True for answer in answers)

    found = await gather_bounded([one(p) for p in chosen], max(1, recipe.engine.concurrency // num))
    return dict(zip((p.id for p in chosen), found, strict=True))


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table` with `COLUMNS`, NaN where there was no second look."""
    run, rows = read_run(path), rounds.table(path)
    looks = {
        row["round"]: read_json(_file(path, row["round"]))
        for row in rows
        if _file(path, row["round"]).exists()
    }
    if not looks:
        return [row | dict.fromkeys(COLUMNS, math.nan) for row in rows]
    probe = run.rounds[0].probe
    tail = set(
        probe["problem"][
            (probe["slice"] == "tail") & (probe["family"] == run.rounds[0].main_family)
        ]
    )
    at_k = int(run.recipe["probe"]["pass_at"])
    return [row | _columns(looks.get(row["round"]), looks[0], sorted(tail), at_k) for row in rows]


def _columns(
    right: Mapping[str, int] | None, before: Mapping[str, int], tail: Sequence[str], at_k: int
) -> dict[str, float]:
    if right is None:
        return dict.fromkeys(COLUMNS, math.nan)
    num = SAMPLES // len(right)
    now, then = (
        {name: count / num for name, count in rights.items()} for rights in (right, before)
    )
    change = paired(now, then).interval()
    right_P = np.array([right[name] for name in tail], dtype=float)
    at_least_once_P = pass_at_k(right_P, np.full(len(tail), float(num)), at_k)
    found = (
        float(np.mean(list(now.values()))),
        float(at_least_once_P.mean()),
        change.value,
        change.low,
        change.high,
    )
    return dict(zip(COLUMNS, found, strict=True))


def _file(path: Path, number: int) -> Path:
    return file_of(path, "second_look", number)
