"""Ways to make one guarded quantity of a simulated round worse.

Suffixes as in `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.decision.guarded import GuardedQuantity, Harm, Part
from ouroloop.monitors.decision.patterns import ALIVE_SHARE
from ouroloop.monitors.decision.populations import Population, Rows
from ouroloop.monitors.decision.responses import Grid
from ouroloop.monitors.decision.tables import Ints, Pair, Table, Tables

Harming = Callable[[np.random.Generator, Population, Table, float, Rows], Table]
"""(generator, population, a round, how much from 0 to 1, the problems to harm) -> the round."""


# ---- scored samples -------------------------------------------------------------------------


def _wrong(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample turns wrong with this probability."""
    hit_PK = (rng.random(now.right_PK.shape) < harm) & rows_P[:, None]
    return replace(
        now,
        right_PK=now.right_PK & ~hit_PK,
        answer_PK=np.where(hit_PK, -1, now.answer_PK),
    )


def _one_strategy(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample takes its problem's favourite strategy with this probability.

    It is as right as before.
    """
    hit_PK = (rng.random(now.right_PK.shape) < harm) & rows_P[:, None]
    # The problem's row in the population, from its name.
    index_P = np.array([int(p.split("|")[0]) for p in now.problems])
    return replace(
        now,
        strategy_PK=np.where(hit_PK, population.favourite_P[index_P][:, None], now.strategy_PK),
    )


def _sure_and_wrong(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """This share of the problems is always answered alike, and wrong."""
    hit_P = rng.random(len(now.problems)) < harm
    hit_PK = np.repeat(hit_P[:, None], now.right_PK.shape[1], axis=1)
    return replace(
        now,
        right_PK=now.right_PK & ~hit_PK,
        answer_PK=np.where(hit_PK, len(now.labels) - 1, now.answer_PK),
    )


def _unnamed(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample loses its strategy's name with this probability."""
    return replace(
        now,
        strategy_PK=np.where(rng.random(now.right_PK.shape) < harm, -1, now.strategy_PK),
    )


def _one_answer(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample gives one and the same wrong answer with this probability, in every problem."""
    hit_PK = rng.random(now.right_PK.shape) < harm
    return replace(
        now,
        right_PK=now.right_PK & ~hit_PK,
        answer_PK=np.where(hit_PK, len(now.labels) - 1, now.answer_PK),
    )


def _dying(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample of one strategy takes another one with this probability, as right as before."""
    whole = population.main
    dying, heir = _dying_code(np.where(whole.right_PK, whole.strategy_PK, -1))
    hit_PK = (rng.random(now.right_PK.shape) < harm) & (now.strategy_PK == dying)
    return replace(now, strategy_PK=np.where(hit_PK, heir, now.strategy_PK))


def _dying_code(codes_PK: Ints) -> tuple[int, int]:
    """The smallest code that surely held enough at the baseline, and the largest other one."""
    share_C = np.bincount(codes_PK[codes_PK >= 0], minlength=2) / max(codes_PK.size, 1)
    # Twice as much as is asked for: at the edge a baseline may find too little of it by chance.
    held_C = np.where(share_C >= 2 * ALIVE_SHARE, share_C, np.inf)
    dying = int(np.argmin(held_C)) if np.isfinite(held_C).any() else int(np.argmax(share_C))
    others_C = np.where(np.arange(len(share_C)) == dying, -1.0, share_C)
    return dying, int(np.argmax(others_C))


# ---- text that nobody scored ----------------------------------------------------------------


def _one_cluster(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample takes its problem's most common cluster with this probability."""
    index_P = np.array([int(p.split("|")[0]) for p in now.problems], dtype=np.int64)
    favourite_P = population.common_cluster_P[index_P]
    cluster_PK = now.grids[Grid.CLUSTER]
    hit_PK = rng.random(cluster_PK.shape) < harm
    return _with(now, {Grid.CLUSTER: np.where(hit_PK, favourite_P[:, None], cluster_PK)})


def _one_text(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample becomes one and the same new text with this probability."""
    hit_PK = rng.random(now.there_PK.shape) < harm
    return _with(
        now,
        {
            grid: np.where(hit_PK, population.new_code(grid), now.grids[grid])
            for grid in (Grid.CLUSTER, Grid.OPENING)
        },
    )


def _dying_cluster(
    rng: np.random.Generator,
    population: Population,
    now: Table,
    harm: float,
    rows_P: Rows,
) -> Table:
    """Every sample of one cluster takes another one with this probability."""
    if population.free is None:
        return now
    dying, heir = _dying_code(population.free.grids[Grid.CLUSTER])
    cluster_PK = now.grids[Grid.CLUSTER]
    hit_PK = (rng.random(cluster_PK.shape) < harm) & (cluster_PK == dying)
    return _with(now, {Grid.CLUSTER: np.where(hit_PK, heir, cluster_PK)})


def _zero(column: str) -> Harming:
    """Every sample scores 0 in this column with this probability."""

    def apply(
        rng: np.random.Generator,
        population: Population,
        now: Table,
        harm: float,
        rows_P: Rows,
    ) -> Table:
        score_PK = now.grids[column]
        hit_PK = rng.random(score_PK.shape) < harm
        return _with(now, {column: np.where(hit_PK, 0.0 * score_PK, score_PK)})

    return apply


def _with(now: Table, columns: Mapping[str, NDArray[np.generic]]) -> Table:
    return replace(now, grids={**now.grids, **columns})


# The simplest way to make each quantity worse that leaves the others alone where it can.
HARMS: Mapping[Harm, Harming] = {
    Harm.WRONG: _wrong,
    Harm.ONE_STRATEGY: _one_strategy,
    Harm.UNNAMED: _unnamed,
    Harm.SURE_AND_WRONG: _sure_and_wrong,
    Harm.ONE_ANSWER: _one_answer,
    Harm.DYING: _dying,
    Harm.ONE_CLUSTER: _one_cluster,
    Harm.ONE_TEXT: _one_text,
    Harm.DYING_CLUSTER: _dying_cluster,
}


def harmed(
    tables: Tables,
    population: Population,
    quantity: GuardedQuantity,
    harm: float,
    rng: np.random.Generator,
    column: str = "",
) -> Tables:
    """The same with one quantity of the round harmed, from 0 (not) to 1 (all that there is).

    column: the quantity's own, where it is the mean of one.
    """
    # Entropies along texts have a table of their own, and the same column.
    if quantity.part is Part.TEXTS:
        column = Grid.OPEN
    apply = HARMS.get(quantity.harm) or _zero(column)

    def worse(pair: Pair, rows_P: Rows | None = None) -> Pair:
        if rows_P is None:
            rows_P = np.ones(len(pair.now.problems), dtype=bool)
        return Pair(pair.baseline, apply(rng, population, pair.now, harm, rows_P))

    # Each quantity is harmed in the table that it is computed from, and nowhere else.
    if quantity.part is Part.OTHERS and tables.others is not None:
        return replace(tables, others=worse(tables.others))
    if quantity.part is Part.JUDGED and tables.judged is not None:
        return replace(tables, judged=worse(tables.judged))
    if quantity.part in (Part.UNSCORED, Part.APPROVED) and tables.responses is not None:
        return replace(tables, responses=worse(tables.responses))
    if quantity.part is Part.TEXTS and tables.texts is not None:
        return replace(tables, texts=worse(tables.texts))
    # Harm to the main family is harm to all families with strategies: here it is the only one.
    rows_P = None
    if quantity.part is Part.TAIL:
        rows_P = np.isin(np.arange(len(tables.main.now.problems)), tables.tail_P)
    main = worse(tables.main, rows_P)
    return replace(tables, main=main, with_strategies=main)
