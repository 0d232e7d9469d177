"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.experiment import has
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import last
from ouroloop.monitors.estimators.stats import mean

from .problems import DIGITS


def draw(results: Results, figure: Any) -> None:
    """pass@1 on the family that the teacher reaches and on the one beyond it, over the rounds.

    The teacher's own as a dotted line.
    """
    shown = {
        arm: runs for arm, runs in results.items() if arm not in ("unreachable", "scarce")
    } or results
    for axes, family in zip(figure.subplots(1, 2), DIGITS, strict=True):
        lines_over_rounds(axes, shown, f"{family}, pass@1", last(f"{family}_pass_1"))
        if has(results, "teacher_self_taught"):
            level = mean(
                [
                    float(run[0][f"{family}_pass_1"])
                    for run in results["teacher_self_taught"].values()
                ]
            ).value
            axes.axhline(
                level, color="grey", linewidth=0.8, linestyle=":", label="the teacher itself"
            )
        axes.set_ylim(-0.02, 1.02)
    legend_below(figure, 3)
