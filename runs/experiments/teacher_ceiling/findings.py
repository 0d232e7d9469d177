"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    average,
    change,
    first,
    last,
    over_problems,
)
from ouroloop.monitors.estimators.stats import Estimate, binomial, mean

from .problems import BEYOND, REACHED


def solved(results: Results, arm: str, family: str, which: int) -> Estimate:
    """Share of the held-out problems that any of the probe's samples solves.

    Exact interval over problems; `which` round: 0 or -1.
    """

    def found(run: Rows) -> Estimate:
        return binomial(int(run[which][f"{family}_solved"]), int(run[which][f"{family}_problems"]))

    return over_problems(results, arm, found)


def right(family: str) -> Any:
    """Share of right drafts for a family's training problems, over all rounds of a run."""

    def share(run: Rows) -> float:
        # Round 0 draws nothing to train on.
        drafted = [row for row in run if float(row[f"{family}_sampled"]) > 0]
        total = sum(float(row[f"{family}_sampled"]) for row in drafted)
        return sum(float(row[f"{family}_right"]) for row in drafted) / total if total else math.nan

    return share


def over_rounds(name: str) -> Any:
    """Share of a run's rounds after round 0 in which something holds."""
    return lambda run: sum(float(row[name]) for row in run[1:]) / len(run[1:])


def lead(results: Results, arm: str, family: str) -> Estimate:
    """The teacher's own pass@1 less an arm's after its last round, seed by seed."""
    # The teacher by itself, before any training: round 0 of the arm that starts from it.
    students, teachers = results.get(arm, {}), results.get("teacher_self_taught", {})
    shared = sorted(set(students) & set(teachers))
    name = f"{family}_pass_1"
    return mean([float(teachers[s][0][name]) - float(students[s][-1][name]) for s in shared])


COLUMNS: Columns = {
    "sum3, before": (first("sum3_pass_1"), "%"),
    "sum3, after": (last("sum3_pass_1"), "%"),
    "sum3 greedy, before": (first("sum3_greedy"), "%"),
    "sum3 greedy, after": (last("sum3_greedy"), "%"),
    "sum3 pass@8, after": (last("sum3_pass_k"), "%"),
    "sum4, before": (first("sum4_pass_1"), "%"),
    "sum4, after": (last("sum4_pass_1"), "%"),
    "sum4 pass@8, after": (last("sum4_pass_k"), "%"),
    "drafts right, sum3": (right(REACHED), "%"),
    "drafts right, sum4": (right(BEYOND), "%"),
    "rounds with a warning of supply": (over_rounds("warned"), "%"),
    "rounds that trained": (over_rounds("trained"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """Nothing beyond what the teacher solves, and a warning instead of training.

    The last goals are about arms whose yield is above 0.
    """
    return [*_limit(results), *_beyond_it(results), *_without_supply(results)]


def _limit(results: Results) -> list[Goal]:
    # "At most a tenth" as one less the share: goals are lower limits.
    share = solved(results, "distilled", BEYOND, -1)
    unsolved = Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.num_clusters)
    return [
        Goal.not_below(
            "on sum4 the distilled student is not above its teacher (teacher less student; not"
            " below 0)",
            lead(results, "distilled", BEYOND),
            0.0,
            "%",
        ),
        Goal.above(
            "the distilled student solves at most a tenth of sum4 in 8 samples (one less the share"
            " solved, exact interval over problems above 0.9)",
            unsolved,
            0.9,
            "%",
        ),
        Goal.above(
            "on sum3, where the teacher solves some, the distilled student gains (interval above"
            " 0)",
            average(results, "distilled", change("sum3_pass_1")),
            unit="%",
        ),
        Goal.not_below(
            "without the filter, the student is not above its teacher on sum3 either (teacher less"
            " student; not below 0)",
            lead(results, "imitated", REACHED),
            0.0,
            "%",
        ),
    ]


def _beyond_it(results: Results) -> list[Goal]:
    out = [
        Goal.above(
            f"{who} goes on by itself where its yield is above 0: gain on sum3 from its own"
            " gold-filtered samples (interval above 0)",
            average(results, arm, change("sum3_pass_1")),
            unit="%",
        )
        for arm, who in (("self_taught", "the student"), ("teacher_self_taught", "the teacher"))
    ]
    asks = (
        "the limit is the teacher's, not the student's: gold traces take the student beyond it"
        " on sum4 (gain, interval above 0)"
    )
    return [
        *out,
        Goal.above(asks, average(results, "gold_traces", change("sum4_pass_1")), unit="%"),
    ]


def _without_supply(results: Results) -> list[Goal]:
    out = []
    for arm in ("unreachable", "scarce"):
        warned = average(results, arm, over_rounds("warned"))
        asks = f"{arm}: a warning of failing supply comes before training (share of rounds)"
        out.append(Goal.at_least(asks, warned, 1.0, "%"))
        asks = f"{arm}: no training on fewer examples than dataset.min_examples (share of rounds)"
        idle = average(results, arm, lambda run: 1 - over_rounds("trained")(run))
        out.append(Goal.at_least(asks, idle, 1.0, "%"))
    return out


def notes(results: Results) -> Sequence[str]:
    """What the loop did in the arms whose teacher fails."""
    lines = ["| arm | seed | round | examples | trained | decision |", "|---|---|---|---|---|---|"]
    for arm in ("unreachable", "scarce"):
        for seed, run in results.get(arm, {}).items():
            for found in run[1:]:
                trained = "yes" if float(found["trained"]) else "no"
                lines.append(
                    f"| {arm} | {seed} | {found['round']:.0f} | {found['examples']:.0f} | {trained}"
                    f" | {found['action']} |"
                )
    return lines if len(lines) > 2 else []
