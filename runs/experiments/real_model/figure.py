"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows, last

from .beyond import KS

OVER_ROUNDS: dict[str, Callable[[Rows], float]] = {
    "pass@1, %": lambda run: 100 * last("pass_1")(run),
    "pass@8, %": lambda run: 100 * last("pass_k")(run),
    "over-confidence, %": lambda run: 100 * last("overconfidence")(run),
}


def draw(results: Results, figure: Any) -> None:
    """Accuracy, breadth and confidence over the rounds; pass@k at both ends."""
    *over, ends = figure.subplots(1, len(OVER_ROUNDS) + 1)
    for axes, (title, value) in zip(over, OVER_ROUNDS.items(), strict=True):
        lines_over_rounds(axes, results, title, value)
    for i, runs in enumerate(results.values()):
        for run in runs.values():
            ends.plot(KS, _pass_at(run[-1]), color=f"C{i % 10}", linewidth=1)
            # The same model in all arms of a seed.
            ends.plot(KS, _pass_at(run[0]), color="0.6", linestyle="--", linewidth=1)
    over[0].plot([], [], color="0.6", linestyle="--", label="round 0")
    ends.set_xscale("log", base=4)
    ends.xaxis.set_major_formatter("{x:.0f}")
    ends.set_title("pass@k at the end, %", fontsize=9)
    ends.set_xlabel("k", fontsize=8)
    ends.tick_params(labelsize=8)
    legend_below(figure, 6)


def _pass_at(row: Mapping[str, Any]) -> list[float]:
    return [100 * float(row[f"far_pass_{k}"]) for k in KS]
