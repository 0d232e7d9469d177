"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ouroloop.loop.experiments.experiment import has
from ouroloop.loop.experiments.study import Results

from .findings import SIZES, _accuracy, gap


def draw(results: Results, figure: Any) -> None:
    """Accuracy by the number of examples, a line per thing learnt, and the gap between the two.

    Points are runs.
    """
    left, right = figure.subplots(1, 2)
    for i, target in enumerate(("trace", "answer")):
        arms = {
            size: results[f"{target}_{size}"] for size in SIZES if has(results, f"{target}_{size}")
        }
        _line(
            left,
            {size: [_accuracy(run) for run in runs.values()] for size, runs in arms.items()},
            f"C{i}",
            f"{target}s",
        )
    # Controls exist at the largest size only: points, no lines.
    for i, name in enumerate(("naive_trace", "naive_answer", "answer_long")):
        if has(results, name):
            _line(
                left,
                {SIZES[-1]: [_accuracy(run) for run in results[name].values()]},
                f"C{i + 2}",
                name,
            )
    _line(
        right,
        {size: list(gap(results, size).values()) for size in SIZES if gap(results, size)},
        "C5",
        "traces minus answers",
    )
    for axes, title in ((left, "greedy accuracy, four families, %"), (right, "gap, points")):
        axes.set_xscale("log")
        axes.set_xticks(SIZES, [str(size) for size in SIZES], minor=False)
        axes.minorticks_off()
        axes.set_ylim(0, 100)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("training examples", fontsize=8)
        axes.tick_params(labelsize=8)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)


def _line(axes: Any, scores: Mapping[int, Sequence[float]], colour: str, label: str) -> None:
    """Means joined, every run a point; nothing for no scores."""
    if scores:
        means = [100 * sum(values) / len(values) for values in scores.values()]
        axes.plot(list(scores), means, "-o", color=colour, linewidth=1, markersize=4, label=label)
        for size, values in scores.items():
            axes.plot(
                [size] * len(values),
                [100 * value for value in values],
                ".",
                color=colour,
                markersize=3,
                alpha=0.6,
            )
