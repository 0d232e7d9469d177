"""Response patterns: scores of samples by cluster, opening or text, and which of them to look at.

Suffixes as in `blocks.py`; `_C` codes of a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision.blocks import BlockScore, distinct
from ouroloop.monitors.decision.responses import PATTERNS, Grid
from ouroloop.monitors.decision.tables import Ints, Pair, Table
from ouroloop.monitors.estimators.ustatistics import distinct_variance

# A collapse has few targets. One would miss a model that alternates between a refusal and a
# disclaimer; many would gather sampling noise, which costs power.
NUM_PATTERNS = 3
"""Response patterns (clusters, openings, texts) that are looked at: those that grew most."""
ALIVE_SHARE = 0.05
"""What a strategy or cluster must have held at the baseline to be missed when it dies out."""

MAX_QUOTED = 60
"""Characters of a whole text that are shown."""


# ---- scores ---------------------------------------------------------------------------------


def value(name: str) -> BlockScore:
    """The single sample's own score in this column."""

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        return np.asarray(rows.grids[name][:, columns_RMS[..., 0]], dtype=float)

    return score


def apart(rows: Table, columns_RMS: Ints) -> Floats:
    """Two samples lie in different clusters; those without one are a cluster together."""
    cluster_PK = rows.grids[Grid.CLUSTER]
    one, other = cluster_PK[:, columns_RMS[..., 0]], cluster_PK[:, columns_RMS[..., 1]]
    return np.asarray(one != other, dtype=float)


def kinds(rows: Table, columns_RMS: Ints) -> Floats:
    """Different clusters of a block, per sample; those without one are a cluster together."""
    return distinct(rows.grids[Grid.CLUSTER][:, columns_RMS])


def kinds_variance(rows: Table, size: int) -> Floats:
    """Of the mean of `kinds`, (P,): see `distinct_variance`."""
    return distinct_variance(
        rows.grids[Grid.CLUSTER], rows.there_PK, rows.there_PK.sum(axis=1), size
    )


class Pattern(NamedTuple):
    """A response cluster, an opening or a whole text."""

    grid: Grid
    code: int


def unlike(patterns: tuple[Pattern, ...]) -> BlockScore:
    """1 unless the single sample has one of these patterns; they were picked on other samples."""

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        column_RM = columns_RMS[..., 0]
        hit = np.zeros((len(rows.there_PK), *column_RM.shape), dtype=bool)
        for pattern in patterns:
            hit |= rows.grids[pattern.grid][:, column_RM] == pattern.code
        return np.asarray(~hit, dtype=float)

    return score


def alike(pattern: Pattern) -> BlockScore:
    """The single sample has this pattern, which was picked on other samples."""

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        return np.asarray(
            rows.grids[pattern.grid][:, columns_RMS[..., 0]] == pattern.code, dtype=float
        )

    return score


# ---- picks ----------------------------------------------------------------------------------


def shares(rows: Table, grid: Grid, num_codes: int) -> Floats:
    """Each code's share of all samples, every problem weighing the same."""
    codes_PK = rows.grids[grid]
    size_P1 = rows.there_PK.sum(axis=1, keepdims=True)
    weight_PK = rows.there_PK / np.maximum(size_P1, 1) / max(int((size_P1 > 0).sum()), 1)
    read_PK = (codes_PK >= 0) & rows.there_PK
    return np.bincount(codes_PK[read_PK], weights=weight_PK[read_PK], minlength=num_codes).astype(
        float
    )


def without(pair: Pair, pattern: Pattern) -> Pair:
    """Both sides without the patterns of the samples that have this one."""
    sides = []
    for side in pair:
        has_PK = side.grids[pattern.grid] == pattern.code
        left = {str(grid): np.where(has_PK, -1, side.grids[grid]) for grid in patterns_of(pair)}
        sides.append(replace(side, grids={**side.grids, **left}))
    return Pair(*sides)


def patterns_of(pair: Pair) -> list[Grid]:
    """The columns of codes that both sides have."""
    return [grid for grid in PATTERNS if all(grid in side.grids for side in pair)]


def _both(pair: Pair, grid: Grid) -> tuple[Floats, Floats]:
    """The shares of both sides, of codes that both share."""
    num_codes = 1 + max(int(side.grids[grid].max(initial=-1)) for side in pair)
    then, now = (shares(side, grid, num_codes) for side in pair)
    return then, now


def paired(pair: Pair) -> Pair:
    """The problems of which both sides have samples: shares of others could not be compared."""
    both_P = pair.baseline.there_PK.any(axis=1) & pair.now.there_PK.any(axis=1)
    return pair.rows(np.flatnonzero(both_P))


def most_grown(pair: Pair) -> tuple[Pattern, ...]:
    """The patterns that have grown most surely: at most `NUM_PATTERNS`.

    By the growth of their share in its standard errors, as if samples were independent. By the
    growth alone, a large cluster that varies by chance would take the place of a small new text,
    and its samples would bury it. For the same reason one after the other, each of the samples that
    those before it leave: the cluster and the first words of a canned text that was picked grew
    with it, but hold what was always there as well.
    """
    pair = paired(pair)
    num = [int(side.there_PK.sum()) for side in pair]
    if not all(num):
        return ()
    found: list[Pattern] = []
    for _ in range(NUM_PATTERNS):
        best = min((_best(pair, grid, num) for grid in patterns_of(pair)), default=None)
        if best is None or best[0] >= 0:
            break
        found.append(best[-1])
        pair = without(pair, best[-1])
    return tuple(found)


def _best(pair: Pair, grid: Grid, num: Sequence[int]) -> tuple[float, int, Pattern]:
    """The code of a column that grew most surely.

    Returns:
        Its growth in standard errors, negated; the column's place in `PATTERNS`; the code. So the
        smallest of several is the surest, of equals the most specific one, the first by name.
    """
    then_C, now_C = _both(pair, grid)
    if not len(now_C):
        return 0.0, 0, Pattern(grid, -2)
    # A share of all samples may come out as 1 + 2e-16: its variance must not be negative.
    pooled_C = np.minimum((then_C * num[0] + now_C * num[1]) / sum(num), 1.0)
    se_C = np.sqrt(pooled_C * (1 - pooled_C) * (1 / num[0] + 1 / num[1]))
    grown_C = (now_C - then_C) / np.maximum(se_C, 1e-12)
    code = int(np.argmax(grown_C))
    return -float(grown_C[code]), PATTERNS.index(grid), Pattern(grid, code)


def most_fallen(pair: Pair, grid: Grid) -> Pattern | None:
    """Of the codes that held `ALIVE_SHARE` at the baseline, the one with the least of it left."""
    pair = paired(pair)
    then_C, now_C = _both(pair, grid)
    held_C = np.flatnonzero(then_C >= ALIVE_SHARE)
    if not len(held_C):
        return None
    left_C = now_C[held_C] / then_C[held_C]
    return Pattern(grid, int(held_C[np.argmin(left_C)]))


def quoted(rows: Table, pattern: Pattern) -> str:
    """A pattern for a reader; simulated samples have no labels."""
    labels = rows.legend.get(pattern.grid, ())
    label = str(pattern.code)
    if pattern.code < len(labels):
        label = labels[pattern.code]
    if pattern.grid is Grid.OPENING:
        return f'"{label} ..."'
    if pattern.grid is Grid.TEXT:
        return repr(label if len(label) <= MAX_QUOTED else f"{label[:MAX_QUOTED]}...")
    return label
