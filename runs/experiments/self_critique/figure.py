"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.drawing import legend_below
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import average, last
from ouroloop.monitors.estimators.stats import Estimate

from .arms import FILTERS, REFINING, name_of
from .findings import practised

PANELS = (
    ("pass@1, %", last("pass_1")),
    ("harder families, %", practised),
    ("DCP of round 0's, %", lambda run: float(run[-1]["dcp"]) / float(run[0]["dcp"])),
    ("over-confidence, %", last("overconfidence")),
)


def draw(results: Results, figure: Any) -> None:
    """Each measure by way to refine: with and without gold, guarded ones hollow; 95 % bars."""
    for axes, (title, column) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for i, filtered in enumerate(FILTERS):
            for guarded in (False, True):
                _series(axes, results, column, (i, filtered, guarded))
        axes.set_xticks(range(len(REFINING)), list(REFINING), rotation=45, fontsize=7)
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="y", labelsize=8)
    legend_below(figure, 4)


def _series(axes: Any, results: Results, column: Any, how: tuple[int, str, bool]) -> None:
    i, filtered, guarded = how
    # Side by side, so that the bars of four points do not cover each other.
    shift = 0.4 * (i - 0.5) + 0.18 * (guarded - 0.5)
    named = [name_of(filtered, refined, guarded) for refined in REFINING]
    # Arms that have not run yet are not in the legend either.
    there = [at for at, arm in enumerate(named) if results.get(arm)]
    for at in there:
        found = average(results, named[at], column)
        axes.errorbar(
            [at + shift],
            [100 * found.value],
            yerr=[[100 * half] for half in _halves(found)],
            fmt="s" if i else "o",
            color=f"C{i}",
            markersize=4,
            markerfacecolor="none" if guarded else f"C{i}",
            linewidth=1,
            label=f"{filtered}{', guarded' * guarded}" if at == there[0] else None,
        )


def _halves(found: Estimate) -> tuple[float, float]:
    """Down and up; nothing where one seed shows no spread."""
    if found.low != found.low:
        return 0.0, 0.0
    return found.value - found.low, found.high - found.value
