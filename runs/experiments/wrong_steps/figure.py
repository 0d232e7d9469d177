"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows


def per_cent(name: str) -> Callable[[Rows], float]:
    """The last row's share, in per cent."""
    return lambda run: 100 * float(run[-1][name])


def draw(results: Results, figure: Any) -> None:
    """Wrong steps among right answers, and what is right by right steps, over the rounds."""
    titles = {
        "wrong_share": "right answers that hold a wrong step, %",
        "by_right_steps": "right by right steps, %",
    }
    for axes, (name, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        lines_over_rounds(axes, results, title, per_cent(name))
        axes.set_ylim(bottom=0)
    legend_below(figure, 3)
