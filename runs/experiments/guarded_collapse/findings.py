"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    alarmed,
    average,
    gain,
    kept,
    last,
)
from ouroloop.monitors.estimators.stats import Estimate, binomial, mean
from ouroloop.monitors.names import Action

from .arms import ARMS, LARGER
from .second_look import FALL, fell

# The tail: families that the loop never practises on, and that not every strategy maps onto.
#
# The world's own tail slice, sums with many carries, is no harder for the base than the others:
# its pass@8 is at its ceiling wherever right answers are kept, and shows no difference.
STRUCTURES = ("sum3", "missing", "multibuy")

# Seeds run to confirm it, unseen when it was fixed that this is the tail (decision 009).
CONFIRMING = (5, 6, 7, 8, 9)

# What they keep is all that they train on.
UNMIXED = ("replace", "sharpen", "answer_filtered", "critic_filtered", "shortcut")

GUARDED = tuple(arm for arm in ARMS if arm.startswith("guarded"))

# Fixed shares of real data, none first: their frontier is what an adaptive share has to beat.
FIXED = ("answer_filtered", "fixed_10", "fixed_30", "fixed_50")


def structures(run: Rows) -> float:
    """pass@8 in the last round on `STRUCTURES`.

    What is left for problems that the dominant pattern cannot map. NaN where it was not kept.
    """
    return sum(float(run[-1].get(f"{family}_pass_k", math.nan)) for family in STRUCTURES) / len(
        STRUCTURES
    )


def rarest(run: Rows) -> float:
    """The least of the strategies' shares of the last round's right samples."""
    return min(float(run[-1][f"share_{s}"]) for s in rounds.STRATEGIES)


def miscalibration(run: Rows) -> float:
    """How far the last round's votes are from calibrated, whether too sure or not sure enough."""
    return abs(float(run[-1]["overconfidence"]))


COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "maj@16": (last("maj_k"), "%"),
    "other structures, pass@8": (structures, "%"),
    "many carries, pass@8": (last("tail_pass_k"), "%"),
    "DCP kept": (kept("dcp"), "%"),
    "strategies alive": (last("alive"), ""),
    "rarest share": (rarest, "%"),
    "over-confidence": (last("overconfidence"), "%"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
}


def goals(results: Results) -> list[Goal]:
    """What the guard is for: breadth kept, accuracy not lost, warnings in time and with cause."""
    return [
        *breadth(results),
        *accuracy(results),
        *beside_fixed_shares(results),
        *warnings(results),
    ]


def breadth(results: Results) -> list[Goal]:
    """What the guarded arm keeps of the strategies and of the tail."""
    rare = average(results, "guarded", rarest)
    alive = [rarest(run) >= 0.01 for run in results.get("guarded", {}).values()]
    # The tail was chosen after seeds 0 to 4 had been seen; 5 to 9 confirm it.
    fresh = {
        arm: {seed: run for seed, run in runs.items() if seed in CONFIRMING}
        for arm, runs in results.items()
    }
    tail = gain(results, "guarded", "answer_filtered", structures)
    confirmed = gain(fresh, "guarded", "answer_filtered", structures)
    return [
        Goal.above(
            "guarded keeps DCP (interval above 90 %)",
            average(results, "guarded", kept("dcp")),
            0.9,
            "%",
        ),
        Goal(
            "guarded: the rarest strategy's share (at least 1 % in every seed)",
            rare,
            all(alive) if alive else None,
            "%",
        ),
        Goal.above(
            "guarded over answer-filtered: the tail's pass@8, other structures (interval above 0)",
            tail,
            unit="%",
        ),
        Goal.above(
            "the tail's pass@8 in the five seeds run to confirm it (interval above 0)",
            confirmed,
            unit="%",
        ),
    ]


def accuracy(results: Results) -> list[Goal]:
    """Neither confidence nor accuracy is lost to the guard."""
    # The distance from calibrated, not the signed number: being less sure is no merit below zero.
    closer = gain(results, "answer_filtered", "guarded", miscalibration)
    greedy, majority = (
        gain(results, "guarded", "answer_filtered", last(name)) for name in ("greedy", "maj_k")
    )
    return [
        Goal.above(
            "guarded is closer to calibrated than answer-filtered (absolute over-confidence,"
            " interval above 0)",
            closer,
            unit="%",
        ),
        Goal.not_below(
            "guarded over answer-filtered: greedy (no 2 points lost, one-sided)",
            greedy,
            -FALL,
            "%",
        ),
        Goal.not_below(
            "guarded over answer-filtered: maj@16 (no 2 points lost, one-sided)",
            majority,
            -FALL,
            "%",
        ),
    ]


def beside_fixed_shares(results: Results) -> list[Goal]:
    """An adaptive share of real data against fixed ones, and on top of one."""
    return [
        Goal.above(
            "guarded: DCP above the frontier of fixed shares at its own pass@1 (interval above 0)",
            above_frontier(results),
            unit="%",
        ),
        Goal.above(
            "guarded on top of a standing 30 % over that share alone: DCP kept (interval above 0)",
            gain(results, "guarded_30", "fixed_30", kept("dcp")),
            unit="%",
        ),
    ]


def warnings(results: Results) -> list[Goal]:
    """Every fall is warned of in time; no healthy run is halted."""
    unsteered = [
        run
        for arm, runs in results.items()
        if arm not in (*GUARDED, *LARGER)
        for run in runs.values()
    ]
    larger = [run for arm in LARGER for run in results.get(arm, {}).values()]
    spared = [
        math.isnan(alarmed(run, Action.ROLLBACK, Action.HALT))
        for arm in ("healthy", "healthy_500")
        for run in results.get(arm, {}).values()
    ]
    return [
        Goal(
            "unsteered runs 2 points below round 0 that were warned at most one round later (all)",
            *in_time(unsteered),
            "%",
        ),
        Goal(
            "the same, of the regimes under a probe set of 500 problems (all)",
            *in_time(larger),
            "%",
        ),
        Goal(
            "healthy runs that were not halted, under either probe set (all)",
            *counted(spared),
            "%",
        ),
    ]


def in_time(runs: Sequence[Rows]) -> tuple[Estimate, bool | None]:
    """Of the runs that fell, the share that was warned no later than one round after."""
    return counted([alarmed(run) <= fell(run) + 1 for run in runs if not math.isnan(fell(run))])


def counted(held: Sequence[bool]) -> tuple[Estimate, bool | None]:
    """In which share of the runs something held, and whether in all; not known of no run."""
    return binomial(sum(held), len(held)), all(held) if held else None


def above_frontier(results: Results) -> Estimate:
    """How far the guarded arm's last DCP lies above the frontier, seed by seed.

    The frontier is the line through the fixed shares' points (pass@1, DCP). The distance is in
    units of probability. The line is piecewise linear; beyond its ends the nearest end counts.
    Undefined unless a seed has every arm.
    """
    found = []
    for seed, run in results.get("guarded", {}).items():
        others = [results[arm][seed] for arm in FIXED if seed in results.get(arm, {})]
        if len(others) == len(FIXED):
            points = sorted((float(r[-1]["pass_1"]), float(r[-1]["dcp"])) for r in others)
            frontier = np.interp(
                float(run[-1]["pass_1"]), [x for x, _ in points], [y for _, y in points]
            )
            found.append(float(run[-1]["dcp"]) - float(frontier))
    return mean(found)
