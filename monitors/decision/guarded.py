"""What is guarded: the list of quantities, made from a panel's tables.

Knows neither where the tables come from nor what is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Samples
from ouroloop.monitors.decision import blocks
from ouroloop.monitors.decision.blocks import Table
from ouroloop.monitors.decision.guards import Quantity, families_of
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.metrics.readings import of

UNSCORED = "too few scored samples at the anchor"
NO_STRATEGIES = "no strategy ids, or no pair of right answers, at the anchor"
PAIRS = "distinct-correct-pair probability"
VOTES = "over-confidence of majority votes"
SHORTCUT = "share of the most repeated wrong answer"
RARE = "rare-strategy mass"
OTHERS = "pass@1 of the other families"
UNJUDGED = "share of unscored samples"

NO_ANSWERS = "no readable answer at the anchor"
NO_HALVES = "one sample per problem in this round: no half to pick the answer on"

FIRST = {"pass@1": 0.3, UNJUDGED: 0.02}
"""Shares of the evidence that are fixed ahead of the others, which share the rest evenly.

pass@1: in a drift nothing moves sooner, and the others lose a quarter of a nat. The share of
unscored samples: nearly all samples are scored and its noise is small, so that a loss shows at once
from a small share; an even one would cost all others an eighth of theirs.
"""

Ints = NDArray[np.int64]


class Guarded(Protocol):
    """Further guarded quantities, somebody's own. Its tolerance is its own setting."""

    def quantities(self, tables: Tables) -> Iterator[Quantity]:
        """The quantities of a round, under names that no other quantity has."""
        ...


class Tolerances(Protocol):
    """How much worse each quantity may get; see `DecisionRule`."""

    @property
    def accuracy_loss(self) -> float: ...  # noqa: D102
    @property
    def diversity_loss_share(self) -> float: ...  # noqa: D102
    @property
    def rare_loss_share(self) -> float: ...  # noqa: D102
    @property
    def overconfidence_gain(self) -> float: ...  # noqa: D102
    @property
    def shortcut_gain(self) -> float: ...  # noqa: D102
    @property
    def general_loss(self) -> float: ...  # noqa: D102
    @property
    def unscored_gain(self) -> float: ...  # noqa: D102
    @property
    def pass_k(self) -> int: ...  # noqa: D102
    @property
    def also_guarded(self) -> Sequence[Guarded]: ...  # noqa: D102


@dataclass(frozen=True)
class Tables:
    """The anchor and a round (in this order) as tables, the same problems in the same order.

    main: the main family. tail_P: its rows that lie in the tail slice. with_strategies: all
    families that have strategy ids, family_P their families' codes. others: every other family
    together, if there is one. judged: of all families and all samples, whether they were scored;
    None where they are by construction (simulated streams), so that there is nothing to guard.
    has_tail: the anchor has rows of the tail slice, scored or not.
    """

    main: tuple[Table, Table]
    tail_P: Ints
    with_strategies: tuple[Table, Table]
    family_P: Ints
    others: tuple[Table, Table] | None = None
    judged: tuple[Table, Table] | None = None
    has_tail: bool = False


def tables_of(reference: Samples, probe: Samples, main_family: str, tail_slice: str) -> Tables:
    """Two panels of samples as tables."""
    then, now = of(reference, "family", main_family), of(probe, "family", main_family)
    main = blocks.tables(then, now)
    in_tail = set(of(then, "slice", tail_slice).problem)
    tail_P = np.array([i for i, p in enumerate(main[0].problems) if p in in_tail], dtype=np.int64)
    families = scores.families_with_strategies(reference)
    named = [
        s.where(np.array([f in families for f in s.family], dtype=bool)) for s in (reference, probe)
    ]
    with_strategies = blocks.tables(named[0], named[1])
    rest = [s.where(s.family != main_family) for s in (reference, probe)]
    others = blocks.tables(rest[0], rest[1]) if len(rest[0]) else None
    judged = blocks.judged_tables(reference, probe)
    return Tables(
        main,
        tail_P,
        with_strategies,
        families_of(named[0], with_strategies[0].problems),
        others,
        judged,
        bool(in_tail),
    )


def quantities(tables: Tables, limits: Tolerances) -> Iterator[Quantity]:
    """All guarded quantities of a round."""
    anchor, main = tables.main
    loss, share = limits.accuracy_loss, limits.diversity_loss_share
    yield Quantity("pass@1", 1, blocks.right, anchor, main, loss, UNSCORED)
    yield Quantity(
        PAIRS, 2, blocks.distinct_right, anchor, main, share, NO_STRATEGIES, relative=True
    )
    if len(tables.tail_P) or tables.has_tail:
        anchor_tail, tail = anchor.rows(tables.tail_P), main.rows(tables.tail_P)
        yield Quantity(
            f"pass@{limits.pass_k} of the tail",
            limits.pass_k,
            blocks.right,
            anchor_tail,
            tail,
            loss,
            UNSCORED,
        )
        yield Quantity(
            f"{PAIRS} of the tail",
            2,
            blocks.distinct_right,
            anchor_tail,
            tail,
            share,
            NO_STRATEGIES,
            relative=True,
        )
    yield _rare(tables, limits.rare_loss_share)
    yield _votes(anchor, main, limits.overconfidence_gain)
    yield _shortcut(anchor, main, limits.shortcut_gain)
    if tables.others is not None:
        yield Quantity(OTHERS, 1, blocks.right, *tables.others, limits.general_loss, UNSCORED)
    if tables.judged is not None:
        yield Quantity(
            UNJUDGED,
            1,
            blocks.right,
            *tables.judged,
            limits.unscored_gain,
            UNSCORED,
            shown=(1.0, -1.0),
        )
    for more in limits.also_guarded:
        yield from more.quantities(tables)


def rare_at_anchor(tables: Tables) -> NDArray[np.bool_]:
    """Which strategies are rare for each problem, (P, T).

    From the first half of the anchor's samples.
    """
    anchor, current = tables.with_strategies
    half = anchor.there_PK.shape[1] // 2
    num = int(max(anchor.strategy_PK.max(initial=-1), current.strategy_PK.max(initial=-1))) + 1
    return blocks.rare_strategies(anchor.columns(slice(0, half)), tables.family_P, num)


def _rare(tables: Tables, tolerance: float) -> Quantity:
    """Rare strategies are picked on one half of the anchor and measured on the other."""
    anchor, current = tables.with_strategies
    score = blocks.rare_right(rare_at_anchor(tables))
    rest = anchor.columns(slice(anchor.there_PK.shape[1] // 2, None))
    return Quantity(
        RARE,
        1,
        score,
        rest,
        current,
        tolerance,
        "no strategy was right and rare at the anchor",
        relative=True,
    )


def _votes(anchor: Table, main: Table, tolerance: float) -> Quantity:
    """Blocks as large as both sides have them.

    At least 2, one that votes and one that says how sure the vote is.
    """
    size = max(min(blocks.VOTE_SIZE, main.there_PK.shape[1], anchor.there_PK.shape[1]), 2)
    why = "" if (anchor.answer_PK >= 0).any() else NO_ANSWERS
    return Quantity(
        VOTES,
        size,
        blocks.candour,
        anchor,
        main,
        tolerance,
        UNSCORED,
        ceiling=0.5,
        shown=(1.0, -2.0),
        undefined=why,
    )


def _shortcut(anchor: Table, main: Table, tolerance: float) -> Quantity:
    """The wrong answer whose share over all problems grew most is picked on one half of the round's samples and measured on the other."""
    half = main.there_PK.shape[1] // 2
    code = blocks.most_grown_answer(anchor, main.columns(slice(0, half)))
    why = "" if (anchor.answer_PK >= 0).any() else NO_ANSWERS
    idle = NO_HALVES if main.there_PK.shape[1] == 1 else ""
    rest = main.columns(slice(half, None))
    score = blocks.not_wrongly(code)
    return Quantity(
        SHORTCUT,
        1,
        score,
        anchor,
        rest,
        tolerance,
        UNSCORED,
        shown=(1.0, -1.0),
        undefined=why,
        idle=idle,
    )
