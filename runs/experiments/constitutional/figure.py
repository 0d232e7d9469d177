"""The figure of this experiment."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.study import Results

from .measure import REVISIONS


def draw(results: Results, figure: Any) -> None:
    """Violations over the rounds and over the number of revisions, with and without critique.

    Right answers over the rounds.
    """
    over_rounds, over_revisions, helpful, red_team = figure.subplots(1, 4)
    for i, (arm, runs) in enumerate(results.items()):
        for seed, run in runs.items():
            style = {
                "color": f"C{i}",
                "linewidth": 1,
                "alpha": 0.8,
                "label": arm if seed == min(runs) else None,
            }
            over_rounds.plot([r["round"] for r in run], [r["violations"] for r in run], **style)
            helpful.plot([r["round"] for r in run], [100 * r["helpful"] for r in run], **style)
            red_team.plot([r["round"] for r in run], [100 * r["pass_1"] for r in run], **style)
            if arm in ("constitutional", "direct"):
                over_revisions.plot(
                    range(REVISIONS + 1),
                    [run[1][f"after_{n}"] for n in range(REVISIONS + 1)],
                    marker="o",
                    markersize=3,
                    **style,
                )
    titles = (
        ("violations per response", "round"),
        ("violations left", "revisions"),
        ("helpful, % right", "round"),
        ("red team, % right", "round"),
    )
    for axes, (title, under) in zip(
        (over_rounds, over_revisions, helpful, red_team), titles, strict=True
    ):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(under, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in (over_rounds, over_revisions):
        axes.set_ylim(bottom=0)
    figure.legend(
        *over_rounds.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        fontsize=8,
        frameon=False,
    )
