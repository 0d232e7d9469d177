"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

import numpy as np

from ouroloop.loop.experiments.study import Results
from ouroloop.monitors.estimators.stats import mean

from .findings import column, line
from .measure import ALL, BIN_KEYS, NUM_BINS, PATHS


def draw(results: Results, figure: Any) -> None:
    """maj@k over k (all families, and sum3), and the vote share's reliability, before and after."""
    shown = [("base", next(iter(results)), 0), *((arm, arm, -1) for arm in results)]
    axes = figure.subplots(1, 3)
    for ax, family in zip(axes, ("sum3", ALL), strict=False):
        for i, (name, arm, which) in enumerate(shown):
            runs = list(results[arm].values())
            curve = [
                mean([column(f"maj_{k}", which, family)(run) for run in runs]).value for k in PATHS
            ]
            ax.plot(PATHS, curve, marker=".", color=f"C{i}", linewidth=1, label=name)
            ax.axhline(
                mean([column("greedy", which, family)(run) for run in runs]).value,
                color=f"C{i}",
                linewidth=0.7,
                linestyle=":",
            )
        ax.set_xscale("log")
        ax.set_xticks(PATHS, [str(k) for k in PATHS])
        ax.minorticks_off()
        ax.set_title(f"maj@k, {'four families' if family == ALL else family}", fontsize=9)
        ax.set_xlabel("paths k (dotted: greedy)", fontsize=8)
    axes[2].plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    for i, (_, arm, which) in enumerate(shown):
        # Seeds are pooled by their counts; a bin that no seed filled is left out.
        points = np.array([_diagram(line(run, which)) for run in results[arm].values()])
        with np.errstate(invalid="ignore"):
            weight = np.nansum(points[:, 2], axis=0)
            share, right = (np.nansum(points[:, j] * points[:, 2], axis=0) / weight for j in (0, 1))
        axes[2].plot(share[weight > 0], right[weight > 0], marker=".", color=f"C{i}", linewidth=1)
    axes[2].set_title("vote share against truth", fontsize=9)
    axes[2].set_xlabel("share of the vote (other half)", fontsize=8)
    for ax in axes:
        ax.tick_params(labelsize=8)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )


def _diagram(row: dict[str, Any]) -> list[list[float]]:
    return [[float(row[f"{short}_{i}"]) for i in range(NUM_BINS)] for short, _ in BIN_KEYS]
