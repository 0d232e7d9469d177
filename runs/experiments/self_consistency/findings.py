"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, average, cell, gain, over_problems
from ouroloop.monitors.estimators.stats import Estimate, mean

from .measure import ALL, FAMILIES


def line(run: Rows, which: int, family: str = ALL) -> dict[str, Any]:
    """A family's line of the first (`which` 0) or last (-1) round."""
    return [dict(row) for row in run if row["family"] == family][which]


def column(name: str, which: int, family: str = ALL) -> Any:
    """One number of one line of a run's rows."""
    return lambda run: float(line(run, which, family)[name])


def over(results: Results, arm: str, name: str, which: int, family: str = ALL) -> Estimate:
    """The gain of the vote over `name`, interval over problems."""

    def found(run: Rows) -> Estimate:
        row = line(run, which, family)
        value, low, high = (float(row[f"over_{name}{end}"]) for end in ("", "_low", "_high"))
        return Estimate(value, low, high, int(row["num"]))

    return over_problems(results, arm, found)


COLUMNS: Columns = {
    "greedy, before": (column("greedy", 0), "%"),
    "one sample, before": (column("single", 0), "%"),
    "maj@40, before": (column("maj_40", 0), "%"),
    "greedy, after": (column("greedy", -1), "%"),
    "one sample, after": (column("single", -1), "%"),
    "maj@40, after": (column("maj_40", -1), "%"),
    "over-confidence, before": (column("overconfidence", 0), "%"),
    "over-confidence, after": (column("overconfidence", -1), "%"),
    "ECE, before": (column("ece", 0), "%"),
    "ECE, after": (column("ece", -1), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published gain, and what self-training leaves of it.

    The last goal is that the vote share stays a confidence.
    """
    arm = "gold_filtered"
    # Before: intervals over problems, one model. After training: over seeds.
    single, voted = column_change("over_single"), column_change("maj_40")
    return [
        Goal.above(
            "before self-training, maj@40 is above one sample, all four families (interval over"
            " problems above 0)",
            over(results, arm, "single", 0),
            unit="%",
        ),
        Goal.above(
            "before self-training, maj@40 is above greedy on sum3, where every strategy applies"
            " and greedy leaves room",
            over(results, arm, "greedy", 0, "sum3"),
            unit="%",
        ),
        Goal.above(
            "before self-training, maj@40 is above greedy, all four families",
            over(results, arm, "greedy", 0),
            unit="%",
        ),
        Goal.above(
            "self-training takes part of the gain over one sample into the weights (gain before"
            " less after; interval over seeds above 0)",
            average(results, arm, lambda run: -single(run)),
            unit="%",
        ),
        Goal.not_below(
            "maj@40 after self-training is not below maj@40 before (one-sided)",
            average(results, arm, voted),
            0.0,
            "%",
        ),
        Goal.above(
            "trained on voted answers, the vote share claims more against the truth than trained on"
            " gold (over-confidence, interval above 0)",
            gain(results, "majority_voted", arm, column("overconfidence", -1)),
            unit="%",
        ),
    ]


def column_change(name: str) -> Callable[[Rows], float]:
    """The last round's value less the first one's, all families together."""
    return lambda run: float(column(name, -1)(run)) - float(column(name, 0)(run))


def notes(results: Results) -> Sequence[str]:
    """Family by family: the three accuracies before and after."""
    lines = [
        (
            "| arm | family | greedy -> maj@40, before | greedy -> maj@40, after | over-confidence,"
            " before -> after |"
        ),
        "|---|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for family in FAMILIES:
            cells = {
                (name, which): cell(
                    mean([column(name, which, family)(run) for run in runs.values()]), "%"
                )
                for name in ("greedy", "maj_40", "overconfidence")
                for which in (0, -1)
            }
            shown = [f"{cells['greedy', which]} -> {cells['maj_40', which]}" for which in (0, -1)]
            lines.append(
                f"| {arm} | {family} | {' | '.join(shown)} | {cells['overconfidence', 0]} ->"
                f" {cells['overconfidence', -1]} |"
            )
    return lines
