"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.study import Results

from .findings import COLLAPSING, RETAINED_LEFT

PANELS = {
    "retained": "retained probability",
    "scored_dcp": "DCP, scored",
    "dcp": "DCP, sampled",
}


def draw(results: Results, figure: Any) -> None:
    """Round by round: what was scored, and what was sampled. A line per run."""
    axes = figure.subplots(1, len(PANELS))
    for panel, (name, title) in zip(axes, PANELS.items(), strict=True):
        for arm, runs in results.items():
            colour = "C3" if arm in COLLAPSING else "C0"
            for i, run in enumerate(runs.values()):
                xs, ys = [row["round"] for row in run], [float(row[name]) for row in run]
                panel.plot(xs, ys, color=colour, marker=".", label=None if i else arm)
        panel.set_title(title, fontsize=8)
        panel.set_xlabel("round", fontsize=8)
        panel.set_ylim(bottom=0)
        panel.tick_params(labelsize=8)
    axes[0].axhline(RETAINED_LEFT, color="grey", linewidth=0.8, linestyle=":")
    axes[0].legend(fontsize=8, frameon=False)
