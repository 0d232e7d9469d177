"""Further tables of the page: alarms of every run, second looks, what the filter kept."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import alarmed, cell, markdown
from ouroloop.monitors.estimators.stats import Estimate
from ouroloop.monitors.names import Action

from . import second_look
from .findings import UNMIXED
from .second_look import below_best, fell


def notes(results: Results) -> list[str]:
    """Markdown lines: when every run was warned, second looks, and what the filter kept."""
    grid = [["arm", "seed", "first WATCH or HALT", "first HALT", "2 points below round 0"]]
    grid[0] += ["below its best", "modes named"]
    for arm, runs in results.items():
        for seed, run in runs.items():
            modes = ", ".join(sorted({str(row["mode"]) for row in run if row["mode"]})) or "-"
            halted = alarmed(run, Action.ROLLBACK, Action.HALT)
            when = [alarmed(run), halted, fell(run), below_best(run)]
            shown = ("-" if math.isnan(w) else f"{w:.0f}" for w in when)
            grid.append([arm, str(seed), *shown, modes])
    lines = [*markdown(grid), *again(results)]
    by_kept, unchanged = foreseen(results)
    if math.isfinite(by_kept):
        both = f"{by_kept:.3f} by its share of those kept, {unchanged:.3f} if nothing changed"
        lines += ["", f"R² of a strategy's share of the next round's drafts: {both}."]
    return lines


def again(results: Results) -> list[str]:
    """Markdown lines: the fresh measurements of rounds that were measured again."""
    head = (
        f"| looked at again, {second_look.SAMPLES:,} fresh samples | round | pass@1, seen | fresh |"
        " tail's pass@k, seen | fresh |"
    )
    lines = []
    for arm, runs in results.items():
        for seed, run in runs.items():
            for row in run[1:]:
                if not math.isnan(row.get("fresh_change", math.nan)):
                    change = Estimate(
                        row["fresh_change"], row["fresh_change_low"], row["fresh_change_high"], 2
                    )
                    seen = [row[name] - run[0][name] for name in second_look.FALLING]
                    both = f"{100 * seen[0]:+.1f} | {cell(change, '%')} | {100 * seen[1]:+.1f}"
                    fresh = 100 * (row["fresh_tail_pass_k"] - run[0]["fresh_tail_pass_k"])
                    lines.append(f"| {arm} {seed} | {row['round']:.0f} | {both} | {fresh:+.1f} |")
    return ["", head, "|---" * 6 + "|", *lines] if lines else []


def foreseen(results: Results) -> tuple[float, float]:
    """R^2 of each strategy's share of the next round's samples.

    Predicted by its share of those kept, and by that of those drafted (nothing changes).

    Over rounds, strategies and runs that train on what they keep alone (`UNMIXED`); NaN where no
    run says what it kept.
    """
    triples = [
        [
            float(row[f"{what}_{s}"])
            for row, what in ((now, "kept"), (now, "drafted"), (later, "drafted"))
        ]
        for arm in UNMIXED
        for run in results.get(arm, {}).values()
        for now, later in pairwise(run[1:])
        for s in rounds.STRATEGIES
        if f"kept_{s}" in now
    ]
    triples = [
        shares for shares in triples if all(map(math.isfinite, shares))
    ]  # a round may keep nothing
    if not triples:
        return math.nan, math.nan
    # R^2 of a prediction with slope 1 and no intercept: nothing is fitted.
    kept_share, drafted, later = np.array(triples).T
    spread = ((later - later.mean()) ** 2).sum()
    return tuple(
        float(1 - ((later - predicted) ** 2).sum() / spread) for predicted in (kept_share, drafted)
    )  # type: ignore[return-value]
