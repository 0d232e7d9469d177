"""The frozen judge compared with the recipe: its independence, its own audit, its cost."""

from __future__ import annotations

from pathlib import Path

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.setup import Setting

FEW_ITEMS = 20
"""Planted items of a kind below which a balanced accuracy is hardly known to ten points."""


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """What is to be known of the judge before a run; nothing where there is none."""
    judge = setting.judge
    if judge is None:
        return []
    found = []
    is_baseline = judge.model in (None, setting.base) and not judge.scorers
    # In round 1 the student still is round 0's model, and its critiques choose what is learnt.
    if setting.recipe.filters.critic and is_baseline:
        what = (
            "judge.model: round 0's model is also the critic that filters round 1"
            " (filters.critic: true): what pleases it will look good to it. Name another checkpoint"
            " or a server in judge.model, or set `filters: {critic: false}`."
        )
        found.append(Finding(Level.WARNING, "judge", what))
    # Both kinds are needed: a judge that approves of everything is right on all right items.
    right = sum(item.approve for item in judge.items)
    if min(right, len(judge.items) - right) < FEW_ITEMS:
        what = (
            f"{len(judge.items)} planted items, {right} of them right: how often the judge errs"
            f" will hardly be known. Give at least {FEW_ITEMS} of each kind in judge.items."
        )
        found.append(Finding(Level.WARNING, "judge", what))
    if not found:
        who = ", ".join(f"{c}: {part.use}" for c, part in judge.config.scorers.items())
        who = who or judge.config.model
        what = f"{who}; {_cost(setting)}; audited with {len(judge.items)} items"
        found.append(Finding(Level.OK, "judge", what))
    return found


def _cost(setting: Setting) -> str:
    """Verdicts of a usual round."""
    judge, families = setting.judge, setting.recipe.judge.families if setting.recipe.judge else ()
    assert judge is not None
    num_problems = sum(
        not families or problem.family in families for problem in setting.probe_set.problems
    )
    # Of a usual round; a baseline round has as many times more as it is probed with.
    samples = min(judge.config.samples, setting.recipe.probe.samples)
    num = num_problems * samples * len(judge.criteria)
    return (
        f"{num_problems} problems x {samples} answers x {len(judge.criteria)} criteria ="
        f" {num:,} verdicts a round"
    )
