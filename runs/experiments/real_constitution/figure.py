"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows, first

PANELS: dict[str, Callable[[Rows], float]] = {
    "helpful answers apart, %": lambda run: 100 * first("apart_helpful")(run),
    "own log-loss, nats": first("own_nll"),
    "open alike, helpful, %": lambda run: 100 * first("opening_helpful")(run),
    "repeat their critique, %": lambda run: 100 * first("copied")(run),
}


def draw(results: Results, figure: Any) -> None:
    """How alike the answers grow, and how sure the model is of them, over the rounds."""
    for axes, (title, value) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        lines_over_rounds(axes, results, title, value)
    legend_below(figure, 3)
