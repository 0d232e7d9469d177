"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import last


def draw(results: Results, figure: Any) -> None:
    """pass@1, DCP and the loss on real text over the rounds."""
    panels = {
        "pass_1": "pass@1",
        "dcp": "distinct-correct-pair probability",
        "text_cross_entropy": "real text, nats a token",
    }
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        lines_over_rounds(axes, results, title, last(name))
    legend_below(figure, 3)
