"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.study import Results

from .findings import FURTHER


def draw(results: Results, figure: Any) -> None:
    """Distinct paths per question against maj@1.

    A point per run, a line through the means of the arms that differ in k.

    Squares: equal sizes; triangles: `FURTHER`.
    """
    axes = figure.subplots()
    means: dict[str, tuple[float, float]] = {}
    shown = [arm for arm in results if arm not in ("gold_b", "gold_c", "gold_teacher")]
    for i, arm in enumerate(shown):
        runs, marker = (
            results[arm],
            ("s" if arm.endswith("_equal") else "^" if arm in FURTHER else "o"),
        )
        xs, ys = (
            [float(run[-1]["paths"]) for run in runs.values()],
            [100 * float(run[-1]["greedy"]) for run in runs.values()],
        )
        axes.plot(xs, ys, marker, color=f"C{i % 10}", markersize=4, alpha=0.8, label=arm)
        means[arm] = (sum(xs) / len(xs), sum(ys) / len(ys))
    joined = [means[arm] for arm in ("gold", "k1", "k3", "k9", "k27") if arm in means]
    axes.plot(*zip(*joined, strict=True), color="grey", linewidth=1, zorder=0)
    axes.set_xlabel("distinct paths per question in the training set", fontsize=8)
    axes.set_ylabel("maj@1, %", fontsize=8)
    axes.tick_params(labelsize=8)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False
    )
