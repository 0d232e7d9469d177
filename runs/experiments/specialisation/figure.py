"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows, first

from ..guarded_collapse.findings import STRUCTURES
from .findings import SKILLS, mean_of


def draw(results: Results, figure: Any) -> None:
    """Target, other families with steps, and skills over the rounds."""
    panels: dict[str, Callable[[Rows], float]] = {
        "target (sum2)": first("pass_1"),
        "other families with steps": mean_of(STRUCTURES, 0),
        "skills without steps": mean_of(SKILLS, 0),
    }
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        lines_over_rounds(axes, results, f"{title}, pass@1", value)
        axes.set_ylim(0, 1)
    legend_below(figure, 4)
