"""What is guarded: one declaration per quantity, in one table.

A new quantity is a `GuardedQuantity`: its block score (in `blocks.py`, or in a file of its own) and
an entry in `GUARDED`, or, outside this package, in `DecisionRule.extra`. Its tolerance then has a
name and a default, its evidence a share, its numbers a place in decision.json and a sentence.

Knows neither where the tables come from nor what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ouroloop.monitors.decision import blocks
from ouroloop.monitors.decision.blocks import BlockScore
from ouroloop.monitors.decision.guards import Quantity
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.tables import Bools, Pair, Tables
from ouroloop.monitors.estimators.estimand import EVERY, PROBE, SEPARATOR, Estimand

MAIN = "main"
"""Stands for the main family's own name in a declaration."""
OTHERS = "others"
"""All families but the main one, in an estimand."""
TAIL = "tail"
SECOND_HALF = f"{PROBE}/second_half"
"""The half of the samples that something chosen on the first half is measured on."""

UNSCORED = "too few scored samples at the baseline"
NO_STRATEGIES = "no strategy ids, or no pair of right answers, at the baseline"
NO_RARE = "no strategy was right and rare at the baseline"
NO_ANSWERS = "no readable answer at the baseline"
NO_HALVES = "one sample per problem in this round: no half to pick the answer on"


class QuantityId(StrEnum):
    """The built-in guarded quantities."""

    ACCURACY = "accuracy"
    DIVERSITY = "diversity"
    TAIL_ACCURACY = "tail_accuracy"
    TAIL_DIVERSITY = "tail_diversity"
    RARE_STRATEGIES = "rare_strategies"
    OVERCONFIDENCE = "overconfidence"
    SHORTCUT = "shortcut"
    OTHER_FAMILIES = "other_families"
    UNSCORED = "unscored"


class Harm(StrEnum):
    """How a simulation makes a quantity worse; see `populations.py`."""

    WRONG = "wrong"
    ONE_STRATEGY = "one_strategy"
    UNNAMED = "unnamed"
    SURE_AND_WRONG = "sure_and_wrong"
    ONE_ANSWER = "one_answer"


class Part(StrEnum):
    """Which problems a quantity is about."""

    ALL = "all"
    TAIL = "tail"
    OTHERS = "others"
    JUDGED = "judged"


@dataclass(frozen=True)
class Blocks:
    """What one quantity is computed from in one round; fields as in `guards.Quantity`."""

    size: int
    score: BlockScore
    pair: Pair
    undefined: str = ""
    idle: str = ""


@dataclass(frozen=True)
class GuardedQuantity:
    """The declaration of a quantity that must not get worse than tolerated.

    Attributes:
        id: its identity, in decision.json and over rounds.
        label: how it is called in sentences; `{size}` stands for the samples of a block.
        statistic: of its estimand; `{size}` as in `label`.
        blocks: (tables, pass_k) -> what it is computed from; None: this probe set has no such
            quantity (no tail slice, no other families).
        tolerance: the key by which recipes set its tolerance; several quantities may share one.
        default: the tolerance, in the unit that is shown, or a share if `relative`.
        relative: whether the tolerance is a share of the baseline's value.
        ceiling: see `guards.Quantity`.
        shown: see `guards.Quantity`.
        why_missing: see `guards.Quantity`.
        family: of its estimand; `MAIN` stands for the main family.
        slice: of its estimand.
        samples: of its estimand.
        share: of the evidence, fixed before the run; None: an even share of the rest.
        part: which problems it is about.
        harm: how a power analysis makes it worse.
    """

    id: str
    label: str
    statistic: str
    blocks: Callable[[Tables, int], Blocks | None]
    tolerance: str
    default: float
    relative: bool = False
    ceiling: float | None = None
    shown: tuple[float, float] = (0.0, 1.0)
    why_missing: str = UNSCORED
    family: str = MAIN
    slice: str = EVERY
    samples: str = PROBE
    share: float | None = None
    part: Part = Part.ALL
    harm: Harm = Harm.WRONG

    def estimand(self, main_family: str, size: int) -> Estimand:
        """What the quantity's value is called in a table of readings."""
        family = main_family if self.family == MAIN else self.family
        # A family of somebody's traces may be called anything, and no name may stop a decision.
        family = family.replace(SEPARATOR, "_") or EVERY
        return Estimand(self.statistic.format(size=size), family, self.slice, self.samples)


class Limits(Protocol):
    """What of the rule decides about quantities; see `DecisionRule`."""

    @property
    def guarded(self) -> tuple[GuardedQuantity, ...]: ...  # noqa: D102
    @property
    def pass_k(self) -> int: ...  # noqa: D102
    def tolerance_of(self, declared: GuardedQuantity) -> float: ...  # noqa: D102


def quantities(
    tables: Tables, limits: Limits, baseline: int = 0, suffix: str = ""
) -> Iterator[Quantity]:
    """All guarded quantities of a round beside one baseline.

    Args:
        tables: the baseline and the round.
        limits: what is guarded, with which tolerances.
        baseline: the baseline's round.
        suffix: what is added to names in sentences, to tell baselines apart.
    """
    for declared in limits.guarded:
        found = declared.blocks(tables, limits.pass_k)
        if found is not None:
            yield Quantity(
                stream=StreamId(declared.id, baseline),
                name=declared.label.format(size=found.size) + suffix,
                size=found.size,
                score=found.score,
                pair=found.pair,
                tolerance=limits.tolerance_of(declared),
                relative=declared.relative,
                ceiling=declared.ceiling,
                shown=declared.shown,
                why_missing=declared.why_missing,
                undefined=found.undefined,
                idle=found.idle,
            )


def first_shares(limits: Limits, baseline: int = 0) -> dict[StreamId, float]:
    """The shares of the evidence that are fixed ahead of the others, those of the first baseline.

    Streams of later baselines share the rest evenly with all others.
    """
    return {StreamId(q.id, baseline): q.share for q in limits.guarded if q.share is not None}


# ---- what each quantity is computed from ----------------------------------------------------


def _over(size: int, score: BlockScore) -> Callable[[Tables, int], Blocks | None]:
    """All problems of the main family."""
    return lambda tables, pass_k: Blocks(size, score, tables.main)


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
    """Which strategies are rare for each problem, (P, T).

    From the first half of the baseline's samples.
    """
    baseline, now = tables.with_strategies
    half = baseline.there_PK.shape[1] // 2
    num = int(max(baseline.strategy_PK.max(initial=-1), now.strategy_PK.max(initial=-1))) + 1
    return blocks.rare_strategies(baseline.columns(slice(0, half)), tables.family_P, num)


def _rare(tables: Tables, pass_k: int) -> Blocks | None:
    """Rare strategies are picked on one half of the baseline and measured on the other.

    Picked and measured on the same half, an unchanged model would read a loss.
    """
    baseline, now = tables.with_strategies
    rest = baseline.columns(slice(baseline.there_PK.shape[1] // 2, None))
    return Blocks(1, blocks.rare_right(rare_at_baseline(tables)), Pair(rest, now))


def _votes(tables: Tables, pass_k: int) -> Blocks | None:
    """Blocks as large as both sides have them.

    At least 2, one that votes and one that says how sure the vote is.
    """
    baseline, now = tables.main
    size = min(blocks.VOTE_SIZE, now.there_PK.shape[1], baseline.there_PK.shape[1])
    undefined = "" if (baseline.answer_PK >= 0).any() else NO_ANSWERS
    return Blocks(max(size, 2), blocks.calibration, tables.main, undefined)


def _shortcut(tables: Tables, pass_k: int) -> Blocks | None:
    """The wrong answer whose share grew most.

    It is picked on one half of the round's samples and measured on the other.
    """
    baseline, now = tables.main
    num_columns = now.there_PK.shape[1]
    half = num_columns // 2
    first, rest = now.columns(slice(0, half)), now.columns(slice(half, None))
    score = blocks.not_wrongly(blocks.most_grown_answer(Pair(baseline, first)))
    undefined = "" if (baseline.answer_PK >= 0).any() else NO_ANSWERS
    idle = NO_HALVES if num_columns == 1 else ""
    return Blocks(1, score, Pair(baseline, rest), undefined, idle)


# ---- the table ------------------------------------------------------------------------------

GUARDED = (
    GuardedQuantity(
        QuantityId.ACCURACY,
        "pass@1",
        "accuracy/pass@{size}",
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
        harm=Harm.ONE_ANSWER,
    ),
    GuardedQuantity(
        QuantityId.OTHER_FAMILIES,
        "pass@1 of the other families",
        "accuracy/pass@{size}",
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
)
"""The built-in guarded quantities, in the order in which they are shown."""


def tolerances(declared: tuple[GuardedQuantity, ...] = GUARDED) -> Mapping[str, float]:
    """Every tolerance key with its default.

    Raises:
        ValueError: two quantities have one id, or one key has two defaults.
    """
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
