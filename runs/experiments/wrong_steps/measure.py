"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.evals import steps
from ouroloop.loop.experiments.rounds import mean_of
from ouroloop.loop.views.reader import RoundData, read_run

PRACTISED = ("missing", "sum3")

OTHER = ("sum2", "multibuy")

SKILLS = ("copy", "sort", "compare")


def measure(path: Path) -> list[dict[str, Any]]:
    """One row per round; see `row`."""
    return [row(found) for found in read_run(path).rounds]


def row(found: RoundData) -> dict[str, Any]:
    """Shares of a round; NaN where there is nothing to divide.

    wrong_share: of the probe's right samples (practised families), those by wrong steps.
    """
    probe = found.probe
    sampled = probe[probe["kind"] == "sample"]
    # The world knows every step's truth, so `valid` is exact here.
    mine = sampled[sampled["family"].isin(PRACTISED)]
    right = mine[mine["correct"] == 1]
    greedy = probe[(probe["kind"] == "greedy") & probe["family"].isin(PRACTISED)]
    return {
        "round": found.number,
        "pass_1": mean_of(mine["correct"] == 1),
        "greedy": mean_of(greedy["correct"] == 1),
        "by_right_steps": mean_of((mine["correct"] == 1) & (mine["valid"] == 1)),
        "wrong_share": mean_of(right["valid"] == 0),
        **{
            f"{family}_pass_1": mean_of(sampled[sampled["family"] == family]["correct"] == 1)
            for family in (*PRACTISED, *OTHER, *SKILLS)
        },
        **_pool(found.verdicts),
    }


POOL = (
    "pool_right",
    "pool_wrong",
    "kept",
    "kept_wrong",
    "sums_catch",
    "critic_catches",
    "critic_wastes",
)


def _pool(pool: Any) -> dict[str, float]:
    """What was sampled to train on; NaN before the first training.

    pool_wrong: of the right answers, those by wrong steps. kept_wrong: of what the filter kept.
    sums_catch: share of the right answers by wrong steps in which a plain check of each written
    calculation (all that real text allows) finds a fault. critic_catches, critic_wastes: shares of
    the right answers by wrong, by right steps that the critic does not approve of.
    """
    if not len(pool):
        return dict.fromkeys(POOL, math.nan)
    passed, kept = pool[pool["correct"].eq(True)], pool[pool["kept"]]
    wrong, sound = passed[passed["valid"].eq(False)], passed[passed["valid"].eq(True)]
    # Without a critic nothing was approved or rejected: undefined, not zero.
    asked = bool(pool["approved"].notna().any())
    values = (
        mean_of(pool["correct"].eq(True)),
        mean_of(passed["valid"].eq(False)),
        float(len(kept)),
        mean_of(kept["valid"].eq(False)),
        mean_of([steps.check(text).valid is False for text in wrong["text"]]),
        mean_of(~wrong["approved"].eq(True)) if asked else math.nan,
        mean_of(~sound["approved"].eq(True)) if asked else math.nan,
    )
    return dict(zip(POOL, values, strict=True))
