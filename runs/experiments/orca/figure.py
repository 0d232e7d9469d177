"""The figure of this experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.experiments.study import Results
from ouroloop.monitors.estimators.stats import Estimate, mean

from .findings import over
from .systems import NEEDED


def draw(results: Results, figure: Any) -> None:
    """Greedy accuracy by arm where steps are needed and where not, and by family.

    The families are shown for plain pairs and the mix.
    """
    left, right = figure.subplots(1, 2)
    for i, (kind, families) in enumerate({"need steps": NEEDED, "skills": world.SKILLS}.items()):
        score = over(families, "greedy")
        _bars(
            left,
            [mean([score(run) for run in runs.values()]) for runs in results.values()],
            i,
            kind,
            f"C{i}",
        )
        # What the base could before training: plain pairs fall below it.
        before = mean([score(run[:1]) for runs in results.values() for run in runs.values()]).value
        left.axhline(before, color=f"C{i}", linewidth=1, linestyle="--", label=f"{kind}, before")
    left.set_xticks(range(len(results)), [arm.replace("_", "\n") for arm in results], fontsize=7)
    for i, arm in enumerate(arm for arm in ("plain", "mix") if arm in results):
        found = [
            mean([float(run[-1][f"{family}_greedy"]) for run in results[arm].values()])
            for family in world.FAMILIES
        ]
        _bars(right, found, i, arm, f"C{i + 2}")
    right.set_xticks(range(len(world.FAMILIES)), world.FAMILIES, fontsize=7, rotation=30)
    for axes, title in ((left, "right, greedy, by arm"), (right, "right, greedy, by family")):
        axes.set_title(title, fontsize=9)
        axes.set_ylim(0, 1.3)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.tick_params(axis="y", labelsize=8)
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")


def _bars(axes: Any, found: Sequence[Estimate], index: int, label: str, color: str) -> None:
    """One of two groups of bars, with intervals where there are any."""
    # Two bars of width 0.4 around each tick.
    at = [i + 0.4 * (index - 0.5) for i in range(len(found))]
    spread = [[abs(e.value - e[end]) if e[end] == e[end] else 0.0 for e in found] for end in (1, 2)]
    axes.bar(
        at,
        [e.value for e in found],
        0.4,
        yerr=spread,
        color=color,
        label=label,
        error_kw={"linewidth": 1},
    )
