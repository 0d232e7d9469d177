"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows, last

from .beyond import KS

OVER_ROUNDS: dict[str, Callable[[Rows], float]] = {
    "pass@1, %": lambda run: 100 * last("pass_1")(run),
    "DCP, %": lambda run: 100 * last("dcp")(run),
    "over-confidence, %": lambda run: 100 * last("overconfidence")(run),
}


def draw(results: Results, figure: Any) -> None:
    """Accuracy, breadth and confidence over the rounds; pass@k at both ends."""
    *over, ends = figure.subplots(1, len(OVER_ROUNDS) + 1)
    for axes, (title, value) in zip(over, OVER_ROUNDS.items(), strict=True):
        lines_over_rounds(axes, results, title, value)
    for i, runs in enumerate(results.values()):
        for run in runs.values():
            # Round 0 dashed and grey: the same model in all arms.
            for row, style in ((run[0], "0.6"), (run[-1], f"C{i % 10}")):
                curve = [100 * float(row[f"far_pass_{k}"]) for k in KS]
                ends.plot(KS, curve, color=style, linestyle="--" if style == "0.6" else "-")
    ends.set_xscale("log", base=2)
    ends.set_title("pass@k at the end (grey: round 0), %", fontsize=9)
    ends.set_xlabel("k", fontsize=8)
    ends.tick_params(labelsize=8)
    legend_below(figure, 6)
