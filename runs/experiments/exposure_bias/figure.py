"""The figure of this experiment."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from ouroloop.loop.experiments.drawing import legend_below
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import average

from .beginnings import FAMILIES
from .findings import column, pick

STYLES = (
    ("true", "-", "after true lines"),
    ("own", "--", "after its own"),
    ("kept", ":", "on the true course"),
)
KINDS = (
    ("single", "one sample"),
    ("greedy", "greedy"),
    ("majority", "maj@8"),
    ("verified", "critic's pick"),
)

# Problems at a position; with fewer of them its mean is noise.
FEWEST = 10


def draw(results: Results, figure: Any) -> None:
    """Next-line accuracy by position, and what a vote and the critic recover.

    Positions: after true lines, after the model's own ones, and after own lines that are true.
    """
    base = next(iter(results))
    *by_position, bars = figure.subplots(1, 3)
    models = {base: "the base"}
    if "few_slips" in results:
        models.setdefault("few_slips", "few slips")
    for axes, family in zip(by_position, ("sum3", "missing"), strict=True):
        for i, (arm, name) in enumerate(models.items()):
            for key, style, title in STYLES:
                at, means = _by_position(results, arm, family, key)
                label = f"{name}, {title}"
                axes.plot(at, means, style, color=f"C{i}", marker=".", linewidth=1, label=label)
        axes.set_title(f"{family}: next line right", fontsize=9)
        axes.set_xlabel("line (1: the first calculation)", fontsize=8)
        axes.set_ylim(0, 1.02)
    _bars(bars, results, base)
    for axes in (*by_position, bars):
        axes.tick_params(labelsize=8)
    legend_below(figure, 3)


def _by_position(
    results: Results, arm: str, family: str, key: str
) -> tuple[list[float], list[float]]:
    """Positions and the mean over runs of round 0's accuracy there."""
    by_at: dict[float, list[float]] = defaultdict(list)
    for run in results[arm].values():
        for row in pick(run, 0, family, "line"):
            if not math.isnan(row["at"]) and row["num"] >= FEWEST:
                by_at[row["at"]].append(row[key])
    at = sorted(by_at)
    return at, [float(np.mean(by_at[x])) for x in at]


def _bars(axes: Any, results: Results, arm: str) -> None:
    """The base's accuracy by family: one sample, greedy, a vote, the critic's pick."""
    for i, (key, title) in enumerate(KINDS):
        heights = [average(results, arm, column(key, 0, family)).value for family in FAMILIES]
        at = np.arange(len(FAMILIES)) + 0.2 * i
        axes.bar(at, heights, 0.2, color=str(0.8 - 0.2 * i), label=title)
    axes.set_xticks(np.arange(len(FAMILIES)) + 0.3, FAMILIES)
    axes.set_ylim(0, 1.25)
    axes.set_title("the base: accuracy", fontsize=9)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")
