"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import average, last
from ouroloop.monitors.estimators.stats import Estimate

from .longer import DIGITS


def draw(results: Results, figure: Any) -> None:
    """Accuracy by arm, sampled and greedy; accuracy by number of digits; 95 % bars."""
    by_arm, by_length = figure.subplots(1, 2)
    for i, (name, shown) in enumerate((("pass_1", "T = 1"), ("greedy", "greedy"))):
        for at, arm in enumerate(results):
            _point(by_arm, at + 0.15 * i, average(results, arm, last(name)), i, shown * (at == 0))
    by_arm.set_xticks(range(len(results)), list(results), rotation=45, ha="right", fontsize=7)
    by_arm.set_title("two-digit sums, % right", fontsize=9)
    by_arm.legend(fontsize=7, frameon=False)
    for i, arm in enumerate(results):
        values = [100 * average(results, arm, last(f"digits_{d}")).value for d in DIGITS]
        by_length.plot(DIGITS, values, marker="o", markersize=3, color=f"C{i}", label=arm)
    by_length.set_xticks(DIGITS)
    by_length.set_xlabel("digits", fontsize=8)
    by_length.set_title("% right at T = 1 by length", fontsize=9)
    by_length.legend(fontsize=7, frameon=False)


def _point(axes: Any, at: float, found: Estimate, colour: int, label: str) -> None:
    half = [[0.0], [0.0]]
    if found.low == found.low:
        half = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
    axes.errorbar(
        [at],
        [100 * found.value],
        yerr=half,
        fmt="o",
        markersize=4,
        linewidth=1,
        color=f"C{colour}",
        label=label or None,
    )
