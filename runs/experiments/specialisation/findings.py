"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, alarmed, average, first, gain, last
from ouroloop.monitors.names import Action

from ..guarded_collapse.findings import STRUCTURES

# Families that are answered without steps; `STRUCTURES` are the other families with steps.
SKILLS = ("copy", "sort", "compare")

# What real data in the training set may cost on the target family.
TARGET_LOSS = 0.02


def mean_of(families: Sequence[str], which: int) -> Any:
    """Mean pass@1 of these families in the first (`which` 0) or last (-1) round."""
    return lambda run: (
        sum(float(run[which][f"{family}_pass_1"]) for family in families) / len(families)
    )


# The last round, not the worst: which round is the worst would be picked by sampling noise.
def lost(run: Rows) -> float:
    """General ability in round 0 less that in the last round."""
    return float(run[0]["general"]) - float(run[-1]["general"])


def named(run: Rows) -> float:
    """The first round that acted on the other families' loss; NaN if there is none.

    `measure.is_reason_to_act` has the definition.
    """
    return next((float(row["round"]) for row in run if float(row["named"]) > 0), math.nan)


def seen(run: Rows) -> float:
    """The first round whose general ability is below round 0's by its own interval, or NaN."""
    return next((float(row["round"]) for row in run if float(row["change_high"]) < 0), math.nan)


COLUMNS: Columns = {
    "target, before": (first("pass_1"), "%"),
    "target, after": (last("pass_1"), "%"),
    "target, greedy": (last("greedy"), "%"),
    "general, before": (first("general"), "%"),
    "general, after": (last("general"), "%"),
    "general greedy, before": (first("general_greedy"), "%"),
    "general greedy, after": (last("general_greedy"), "%"),
    "other steps, before": (mean_of(STRUCTURES, 0), "%"),
    "other steps, after": (mean_of(STRUCTURES, -1), "%"),
    "skills, before": (mean_of(SKILLS, 0), "%"),
    "skills, after": (mean_of(SKILLS, -1), "%"),
    "round in which the reading shows the loss": (seen, ""),
    "... the decision rule acts": (alarmed, ""),
    "... and names it": (named, ""),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published trade, what real data saves of it, and whether a warning comes in time."""
    return [*_trade(results), *_what_prevents_it(results)]


def _trade(results: Results) -> list[Goal]:
    arm = "replay_0"
    return [
        Goal.above(
            "distilled on one family, the target gains (pass@1, interval above 0)",
            average(results, arm, lambda run: last("pass_1")(run) - first("pass_1")(run)),
            unit="%",
        ),
        Goal.above(
            "distilled on one family, the other families lose (loss of pass@1, interval above 0)",
            average(results, arm, lost),
            unit="%",
        ),
        Goal.above(
            "they lose greedy accuracy too, as published (interval above 0)",
            average(
                results,
                arm,
                lambda run: first("general_greedy")(run) - last("general_greedy")(run),
            ),
            unit="%",
        ),
        Goal.at_least(
            "the decision rule says so before the last round (share of runs in which it acts and"
            " names this loss)",
            average(results, arm, lambda run: float(named(run) < float(run[-1]["round"]))),
            1.0,
            "%",
        ),
    ]


def _what_prevents_it(results: Results) -> list[Goal]:
    out = []
    # Each remedy has to save something, and must not cost what distillation was for.
    for arm in ("replay_10", "replay_30", "guarded"):
        asks = f"{arm} loses less of the other families than replay_0 (interval above 0)"
        out.append(Goal.above(asks, gain(results, "replay_0", arm, lost), unit="%"))
        asks = f"{arm} costs the target at most 2 points of pass@1 (mean over seeds)"
        cost = gain(results, arm, "replay_0", last("pass_1"))
        out.append(Goal.at_least(asks, cost, -TARGET_LOSS, "%"))
    return out


def notes(results: Results) -> Sequence[str]:
    """What the rule decided, round by round."""
    lines = [
        "| arm | seed | decisions, round 1 on | what drove the last of them |",
        "|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for seed, run in runs.items():
            calls = [row for row in run if row["action"] != Action.CONTINUE]
            lines.append(
                f"| {arm} | {seed} | {', '.join(str(row['action']) for row in run[1:])} |"
                f" {calls[-1]['driver'] if calls else '-'} |"
            )
    return lines
