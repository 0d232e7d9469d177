"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments.experiment import has
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, cell, markdown, over_problems
from ouroloop.monitors.estimators.stats import Estimate, difference, mean

from .beginnings import (
    FAMILIES,
)


def pick(run: Rows, which: int, family: str, part: str = "family") -> list[dict[str, Any]]:
    """The lines of a part and family in the first (`which` 0) or the last (-1) round."""
    number = [row["round"] for row in run][which]
    return [
        dict(row)
        for row in run
        if row["round"] == number and row["family"] == family and row["part"] == part
    ]


def column(name: str, which: int, family: str) -> Any:
    """One number of a run: a family's accuracy."""
    return lambda run: float(pick(run, which, family)[0][name])


def later(name: str, which: int, family: str) -> Any:
    """One number of a run, of the line of all positions from `LATER` on."""
    # A row for each position, and one without a position (NaN) for all later ones together.
    return lambda run: float(
        next(row[name] for row in pick(run, which, family, "line") if math.isnan(row["at"]))
    )


def interval(
    results: Results, arm: str, name: str, which: int, family: str, part: str = "family"
) -> Estimate:
    """`name` with its interval over problems.

    It is read from the family's line, or from that of all later positions (`part` line).
    """

    def found(run: Rows) -> Estimate:
        row = next(
            row
            for row in pick(run, which, family, part)
            if part == "family" or math.isnan(row["at"])
        )
        return Estimate(
            float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]), int(row["num"])
        )

    return over_problems(results, arm, found)


COLUMNS: Columns = {
    f"sum3: {title}, {when}": (make(name, which, "sum3"), "%")
    for title, name, make in (
        ("one sample", "single", column),
        ("maj@8", "majority", column),
        ("the critic's pick of 8", "verified", column),
        ("next line after true lines", "true", later),
        ("... after its own", "own", later),
        ("own slips add up to", "fall", later),
    )
    for when, which in (("before", 0), ("after", -1))
}


def goals(results: Results) -> Sequence[Goal]:
    """Accuracy falls with length; own beginnings cost accuracy.

    A vote and a critic recover some.
    """
    out: list[Goal] = []
    # Both arms start from the base, whose round 0 the goals are about: either will do.
    arm = next((arm for arm in ("gold_traces", "self_trained") if has(results, arm)), None)
    if arm is None:
        return out
    # Two families have different problems: an unpaired difference.
    drop = difference(*(interval(results, arm, "single", 0, family) for family in ("sum2", "sum3")))
    out.append(
        Goal.above(
            "the base: one digit more costs accuracy (one sample, sum2 less sum3; interval over"
            " problems above 0)",
            drop,
            unit="%",
        )
    )
    for family in FAMILIES:
        asks = (
            f"the base, {family}: from the second calculation on, own slips add up (a right line"
            " after true lines less one on the true course)"
        )
        out.append(Goal.above(asks, interval(results, arm, "fall", 0, family, "line"), unit="%"))
    for who, where in (("the base", arm), ("the model of few slips", "few_slips")):
        for family in FAMILIES if has(results, where) else ():
            asks = (
                f"{who}, {family}: what is built on own lines is right less often than what is"
                " built on true ones (exposure bias proper)"
            )
            out.append(
                Goal.above(asks, interval(results, where, "gap", 0, family, "line"), unit="%")
            )
    for name, title in (("majority", "a vote of 8"), ("verified", "the critic's pick of 8")):
        for family in FAMILIES:
            asks = f"the base, {family}: {title} recovers part of what one sample loses"
            out.append(
                Goal.above(asks, interval(results, arm, f"{name}_gain", 0, family), unit="%")
            )
    return out


def notes(results: Results) -> Sequence[str]:
    """The gap before and after training, family by family.

    Below it, one sample's accuracy by the number of lines that the problem takes.
    """
    lines = [
        "| arm | family | beginnings on the true course | gap, before | gap, after |",
        "|---|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for family in FAMILIES:
            course = cell(mean([later("on_course", 0, family)(run) for run in runs.values()]), "%")
            gaps = [
                cell(interval(results, arm, "gap", which, family, "line"), "%") for which in (0, -1)
            ]
            lines.append(f"| {arm} | {family} | {course} | {' | '.join(gaps)} |")
    lines += [
        "",
        (
            "From the second calculation on. Gap (exposure bias proper): accuracy of a line after"
            " true lines less that of a line after the"
        ),
    ]
    lines += [
        "model's own, built on the values that stand there; same problem, strategy and position."
        " Intervals are over problems."
    ]
    # Before any training all arms from this base are alike: the first stands for them.
    arm = next(iter(results))
    grid = [[f"family ({arm}, before, one sample)", *(f"{n} lines" for n in LENGTHS)]]
    for family in FAMILIES:
        grid.append([family, *(_at_length(results, arm, family, length) for length in LENGTHS)])
    return [*lines, "", *markdown(grid)]


LENGTHS = (3, 4, 5, 6, 7)


def _at_length(results: Results, arm: str, family: str, length: int) -> str:
    runs = {
        seed: [row for row in pick(run, 0, family, "length") if row["at"] == length]
        for seed, run in results[arm].items()
    }
    there = {arm: {seed: rows for seed, rows in runs.items() if rows}}

    def found(run: Rows) -> Estimate:
        row = run[0]
        return Estimate(
            float(row["single"]),
            float(row["single_low"]),
            float(row["single_high"]),
            int(row["num"]),
        )

    return cell(over_problems(there, arm, found), "%")
