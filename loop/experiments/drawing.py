"""What the figures of several studies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows


def lines_over_rounds(
    axes: Any, results: Results, title: str, value: Callable[[Rows], float]
) -> None:
    """A column of every row over the rounds: a colour per arm, a thin line per seed.

    Only the first seed's bears the arm's name.
    """
    for i, (arm, runs) in enumerate(results.items()):
        for seed, run in runs.items():
            label = arm if seed == min(runs) else None
            axes.plot(
                [row["round"] for row in run],
                [value([row]) for row in run],
                color=f"C{i % 10}",
                linewidth=1,
                alpha=0.8,
                label=label,
            )
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("round", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=8)


def legend_below(figure: Any, columns: int) -> None:
    """The names of the first axes' lines, under the figure."""
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
