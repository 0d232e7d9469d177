"""The figure of this experiment."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np

from ouroloop.loop.experiments.drawing import legend_below
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Rows,
)

from .findings import FIXED, GUARDED, structures

# What the figure holds against the DCP that is left.
REACHED: dict[str, Callable[[Rows], tuple[float, float]]] = {
    "pass@1 at the end, %": lambda run: (100 * float(run[-1]["pass_1"]), float(run[-1]["dcp"])),
    "other structures at the end, pass@8, %": lambda run: (
        100 * structures(run),
        float(run[-1]["dcp"]),
    ),
}


def draw(results: Results, figure: Any) -> None:
    """DCP over the rounds, the mean over seeds.

    What was reached against breadth kept: a point per run, the fixed shares' means joined, round 0.
    """
    from matplotlib import colormaps

    over, *ends = figure.subplots(1, 1 + len(REACHED), sharey=True)
    start = next(iter(next(iter(results.values())).values()))
    for i, (arm, runs) in enumerate(results.items()):
        color, star = colormaps["tab20"](i), arm in GUARDED
        by_round = zip_longest(
            *([float(row["dcp"]) for row in run] for run in runs.values()), fillvalue=math.nan
        )
        over.plot(
            [np.nanmean(values) for values in by_round],
            color=color,
            linewidth=2.5 if star else 1,
            label=arm,
        )
        for axes, of in zip(ends, REACHED.values(), strict=True):
            axes.scatter(
                *zip(*map(of, runs.values()), strict=True),
                color=color,
                marker="*" if star else "o",
                s=60 if star else 15,
            )
    for axes, (name, of) in zip(ends, REACHED.items(), strict=True):
        means = [
            np.mean([of(run) for run in results[arm].values()], axis=0)
            for arm in FIXED
            if arm in results
        ]
        if means:
            axes.plot(
                *zip(*sorted(map(tuple, means)), strict=True), color="0.6", linewidth=1, zorder=0
            )
        axes.scatter(*zip(of(start[:1]), strict=True), color="black", marker="+", s=60)
        axes.set_xlabel(name, fontsize=8)
    over.set_xlabel("round", fontsize=8)
    over.set_ylabel("distinct-correct-pair probability", fontsize=8)
    over.xaxis.get_major_locator().set_params(integer=True)
    for axes in (over, *ends):
        axes.tick_params(labelsize=8)
    legend_below(figure, 5)
