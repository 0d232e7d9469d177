"""What is guarded: one declaration per quantity, in one table.

A new quantity is a `GuardedQuantity`: its block score (in `blocks.py`, or in a file of its own) and
an entry in `GUARDED`, or, outside this package, in `DecisionRule.extra`. Its tolerance then has a
name and a default, its evidence a share, its numbers a place in decision.json and a sentence.

Knows neither where the tables come from nor what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ouroloop.monitors.decision import blocks, unguarded
from ouroloop.monitors.decision.blocks import BlockScore
from ouroloop.monitors.decision.declaration import (
    TAIL,
    Blocks,
    GuardedQuantity,
    Harm,
    Part,
    QuantityId,
    declared_of,
    first_shares,
    quantities,
    wrong_shares,
)
from ouroloop.monitors.decision.free import FREE
from ouroloop.monitors.decision.halved import fallen_most, one_sample
from ouroloop.monitors.decision.responses import Grid
from ouroloop.monitors.decision.tables import Bools, Pair, Table, Tables
from ouroloop.monitors.decision.unguarded import (
    MOST_PROBLEMS,
    NO_ALIVE,
    NO_ANSWERS,
    NO_K,
    NO_NAMES,
    NO_RARE,
    NO_STRATEGIES,
)
from ouroloop.monitors.estimators.estimand import EVERY, OTHERS, SECOND_HALF

__all__ = [
    "FREE",
    "GUARDED",
    "SCORED",
    "Blocks",
    "GuardedQuantity",
    "Harm",
    "Part",
    "QuantityId",
    "declared_of",
    "first_shares",
    "quantities",
    "rare_at_baseline",
    "tolerances",
    "wrong_shares",
]


# ---- what each quantity is computed from ----------------------------------------------------


def _over(size: int, score: BlockScore) -> Callable[[Tables, int], Blocks | None]:
    """All problems of the main family."""
    return lambda tables, pass_k: Blocks(size, score, tables.main)


# Defined also where no tail row is scored: then the quantity is lost, not absent.
def _in_tail(size: int | None, score: BlockScore) -> Callable[[Tables, int], Blocks | None]:
    """The tail slice of the main family; `size` None: pass_k."""

    def find(tables: Tables, pass_k: int) -> Blocks | None:
        if not (len(tables.tail_P) or tables.has_tail):
            return None
        return Blocks(size or pass_k, score, tables.main.rows(tables.tail_P))

    return find


def _others(tables: Tables, pass_k: int) -> Blocks | None:
    return None if tables.others is None else Blocks(1, blocks.right, tables.others)


def _unscored(tables: Tables, pass_k: int) -> Blocks | None:
    return None if tables.judged is None else Blocks(1, blocks.right, tables.judged)


def rare_at_baseline(tables: Tables) -> Bools:
    """Which strategies are rare for each problem by half of the baseline's samples, (P, T)."""
    baseline, now = tables.with_strategies
    # Columns are in a random order (`tables.shuffled`), so any half will do.
    first, _ = baseline.split()
    num = int(max(baseline.strategy_PK.max(initial=-1), now.strategy_PK.max(initial=-1))) + 1
    return blocks.rare_strategies(first, tables.family_P, num)


def _rare(tables: Tables, pass_k: int) -> Blocks | None:
    """Rare strategies are picked on one half of the baseline and measured on the other.

    Picked and measured on the same half, an unchanged model would read a loss.
    """
    baseline, now = tables.with_strategies
    _, rest = baseline.split()
    score = blocks.rare_right(rare_at_baseline(tables))
    return Blocks(1, score, Pair(rest, now), unguarded.no_names(tables))


def _votes(tables: Tables, pass_k: int) -> Blocks | None:
    """At least two samples: one votes, and the other says how sure the vote is."""
    rows = tables.main.baseline
    undefined = unguarded.without(rows.answer_PK, rows, NO_ANSWERS)
    return Blocks(blocks.usual_block(tables.main), blocks.calibration, tables.main, undefined)


def _ways(tables: Tables, pass_k: int) -> Blocks | None:
    """Blocks as large as those of votes: the more samples, the rarer the ways that are seen."""
    rows = tables.main.baseline
    undefined = unguarded.without(rows.strategy_PK, rows, NO_NAMES)
    size = blocks.usual_block(tables.main)
    shown = (0.0, float(size))
    one_block = blocks.ways_variance
    return Blocks(size, blocks.ways, tables.main, undefined, shown=shown, one_block=one_block)


def _shortcut(tables: Tables, pass_k: int) -> Blocks | None:
    """The wrong answer whose share grew most: picked on one half, measured on the other.

    Of both sides: of many answers the one that grew most is one whose share the baseline's half
    reads too low, and measured on that half an unchanged model would read a gain.
    """
    picked, rest = (Pair(*sides) for sides in zip(*map(Table.split, tables.main), strict=True))
    undefined, idle = one_sample(tables.main, rest)
    rows = tables.main.baseline
    undefined = unguarded.without(rows.answer_PK, rows, NO_ANSWERS) or undefined
    score = blocks.not_wrongly(blocks.most_grown_answer(picked))
    return Blocks(1, score, rest, undefined, idle, repicked=True)


def _solved(tables: Tables, pass_k: int) -> Blocks | None:
    """pass@k at the largest k that both sides allow: what is lost there is lost to selection."""
    k = blocks.largest_block(tables.main, MOST_PROBLEMS)
    most = tables.main.baseline.there_PK.sum(axis=1).max(initial=0)
    undefined = NO_K if most == 1 else ""
    idle = unguarded.one_of_each(tables.main) if k < 2 else ""
    return Blocks(k, blocks.right, tables.main, undefined, idle)


def _alive(tables: Tables, pass_k: int) -> Blocks | None:
    """The strategy whose right samples fell most: picked on one half, measured on the other.

    Only right samples count: a wrong way that dies out is no loss.
    """
    ways = []
    for side in tables.with_strategies:
        way_PK = np.where(side.right_PK, side.strategy_PK, -1)
        legend = {str(Grid.CLUSTER): side.legend.get("strategy", ())}
        ways.append(replace(side, grids={Grid.CLUSTER: way_PK}, legend=legend))
    found = fallen_most(Pair(*ways), NO_ALIVE, "scored sample")
    return replace(found, undefined=unguarded.no_names(tables) or found.undefined)


# ---- the table ------------------------------------------------------------------------------

# The order is that of the sentences and tables; no decision depends on it.
SCORED = (
    GuardedQuantity(
        QuantityId.ACCURACY,
        "pass@1",
        "accuracy/pass@1",
        _over(1, blocks.right),
        tolerance="accuracy_loss",
        default=0.01,
        # In a drift nothing moves sooner; the others lose a quarter of a nat by it.
        share=0.3,
    ),
    GuardedQuantity(
        QuantityId.DIVERSITY,
        "distinct-correct-pair probability",
        "diversity/dcp",
        _over(2, blocks.distinct_right),
        tolerance="diversity_loss_share",
        default=0.10,
        relative=True,
        why_missing=NO_STRATEGIES,
        harm=Harm.ONE_STRATEGY,
    ),
    GuardedQuantity(
        QuantityId.WAYS,
        "ways per problem in {size} samples",
        "ways/mean@{size}",
        _ways,
        tolerance="diversity_loss_share",
        default=0.10,
        relative=True,
        why_missing=NO_NAMES,
        # Of all quantities the first that a sharpening moves, and the surest.
        share=0.2,
        harm=Harm.ONE_STRATEGY,
    ),
    GuardedQuantity(
        QuantityId.TAIL_ACCURACY,
        "pass@{size} of the tail",
        "accuracy/pass@{size}",
        _in_tail(None, blocks.right),
        tolerance="accuracy_loss",
        default=0.01,
        slice=TAIL,
        part=Part.TAIL,
    ),
    GuardedQuantity(
        QuantityId.TAIL_DIVERSITY,
        "distinct-correct-pair probability of the tail",
        "diversity/dcp",
        _in_tail(2, blocks.distinct_right),
        tolerance="diversity_loss_share",
        default=0.10,
        relative=True,
        why_missing=NO_STRATEGIES,
        slice=TAIL,
        part=Part.TAIL,
        harm=Harm.ONE_STRATEGY,
    ),
    GuardedQuantity(
        QuantityId.RARE_STRATEGIES,
        "rare-strategy mass",
        "coverage/rare_mass",
        _rare,
        tolerance="rare_loss_share",
        default=0.25,
        relative=True,
        why_missing=NO_RARE,
        family=EVERY,
        samples=SECOND_HALF,
        picked_at_baseline=True,
        harm=Harm.UNNAMED,
    ),
    GuardedQuantity(
        QuantityId.OVERCONFIDENCE,
        "over-confidence of majority votes",
        "calibration/overconfidence@{size}",
        _votes,
        tolerance="overconfidence_gain",
        default=0.05,
        # A score of 0.5 is calibrated. An under-confident model may become so.
        ceiling=0.5,
        shown=(1.0, -2.0),
        harm=Harm.SURE_AND_WRONG,
    ),
    GuardedQuantity(
        QuantityId.SHORTCUT,
        "share of the most repeated wrong answer",
        "shortcut/share",
        _shortcut,
        tolerance="shortcut_gain",
        default=0.01,
        shown=(1.0, -1.0),
        samples=SECOND_HALF,
        picked_at_baseline=True,
        harm=Harm.ONE_ANSWER,
    ),
    GuardedQuantity(
        QuantityId.OTHER_FAMILIES,
        "pass@1 of the other families",
        "accuracy/pass@1",
        _others,
        tolerance="general_loss",
        default=0.05,
        family=OTHERS,
        part=Part.OTHERS,
    ),
    GuardedQuantity(
        QuantityId.UNSCORED,
        "share of unscored samples",
        "validity/unscored",
        _unscored,
        tolerance="unscored_gain",
        default=0.01,
        shown=(1.0, -1.0),
        family=EVERY,
        # Nearly all samples are scored and the noise is small, so that a loss shows at once from a
        # small share; an even one would cost all other quantities an eighth of theirs.
        share=0.02,
        part=Part.JUDGED,
    ),
    GuardedQuantity(
        QuantityId.SOLVED,
        "pass@{size} of all problems",
        "accuracy/pass@{size}",
        _solved,
        tolerance="accuracy_loss",
        default=0.01,
        # With ALIVE a tenth of the evidence: what they show lasts, so that 0.7 nats less than an
        # even share delay it by a round at most, and the others lose 0.16 nats by the two.
        share=0.05,
        harm=Harm.SURE_AND_WRONG,
    ),
    GuardedQuantity(
        QuantityId.ALIVE,
        "right share of the most fallen strategy",
        "coverage/alive_share",
        _alive,
        tolerance="alive_loss_share",
        default=0.50,
        relative=True,
        why_missing=NO_ALIVE,
        family=EVERY,
        samples=SECOND_HALF,
        picked_at_baseline=True,
        share=0.05,
        harm=Harm.DYING,
    ),
)
"""What gold answers guard."""

GUARDED = (*SCORED, *FREE)
"""The built-in guarded quantities, in the order in which they are shown."""


def tolerances(declared: Sequence[GuardedQuantity] = GUARDED) -> Mapping[str, float]:
    """Every tolerance key with its default; of the built-in quantities, or of all `declared`.

    Raises:
        ValueError: two quantities have one id, or one key has two defaults.
    """
    # Two streams of one id would overwrite each other's evidence.
    ids = [str(q.id) for q in declared]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise ValueError(f"guarded quantities: got the id {twice[0]!r} twice; expected one each.")
    found: dict[str, float] = {}
    for q in declared:
        if found.setdefault(q.tolerance, q.default) != q.default:
            raise ValueError(
                f"guarded quantity {str(q.id)!r}: got the default {q.default:g} for"
                f" {q.tolerance!r}, which has {found[q.tolerance]:g}; expected one default per"
                " tolerance."
            )
    return found
