"""What is picked on one half of the samples and measured on the other, and when it cannot be.

Picked and measured on the same half, the largest of many noisy changes would be one by chance.
"""

from __future__ import annotations

from dataclasses import replace

from ouroloop.monitors.decision.declaration import Blocks
from ouroloop.monitors.decision.patterns import Pattern, alike, most_fallen, quoted
from ouroloop.monitors.decision.responses import Grid
from ouroloop.monitors.decision.tables import Pair, Table

NO_ALIVE_NOW = "this round lacks the problems of which the baseline held enough"
NO_HALF = "one sample per problem at the baseline: no half to pick on"
NO_HALF_NOW = "one sample per problem in this round: no half to pick on"
FEW_HALVES = "fewer than two problems of this round have a sample beyond the half that picks"


def few_halves(now: Table, rest: Table) -> str:
    """Why nothing is measured on the half that is left; empty where the round has lost it all.

    A problem with one sample has it in the half that picks.
    """
    whole, measured = (int(rows.there_PK.any(axis=1).sum()) for rows in (now, rest))
    return FEW_HALVES if measured < 2 <= whole else ""


def one_sample(pair: Pair, rest: Pair) -> tuple[str, str]:
    """Why there is no half to pick on, or none to measure: (undefined, idle)."""
    then, now = (int(side.there_PK.sum(axis=1).max(initial=0)) for side in pair)
    idle = NO_HALF_NOW if now == 1 else few_halves(pair.now, rest.now)
    return NO_HALF if then == 1 else "", idle


def fallen_most(pair: Pair, nothing: str, unit: str) -> Blocks:
    """The code of `Grid.CLUSTER` that fell most, on the halves that did not pick it."""
    first, rest = pair.halves()
    pattern = most_fallen(first, Grid.CLUSTER)
    undefined, idle = one_sample(pair, rest)
    nobody = Blocks(1, alike(Pattern(Grid.CLUSTER, -2)), rest, undefined, idle, unit)
    # The whole baseline alone says whether it is guarded: among a round's problems a code may hold
    # enough that holds too little among all, and the problems that held one may be missing.
    if most_fallen(Pair(first.baseline, first.baseline), Grid.CLUSTER) is None:
        # Without a sample at all that is the reason, and the guard finds it by itself.
        why = nothing if pair.baseline.there_PK.any() else ""
        return replace(nobody, undefined=undefined or why)
    if pattern is None:
        nothing_now = NO_ALIVE_NOW if pair.now.there_PK.any() else f"no {unit} in this round"
        return replace(nobody, idle=idle or nothing_now, repicked=True)
    return Blocks(
        1,
        alike(pattern),
        rest,
        undefined,
        idle,
        unit=unit,
        note=quoted(pair.now, pattern),
        repicked=True,
    )
