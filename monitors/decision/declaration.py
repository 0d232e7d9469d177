"""What a guarded quantity is: its declaration, and from it the quantity of one round.

Knows neither which quantities there are (`guarded.py`) nor what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ouroloop.monitors.decision.blocks import BlockScore, BlockVariance
from ouroloop.monitors.decision.guards import Quantity
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.tables import Pair, Tables
from ouroloop.monitors.estimators.estimand import EVERY, PROBE, SEPARATOR, Estimand

MAIN = "main"
"""Stands for the main family's own name in a declaration."""
TAIL = "tail"

# The usual reason why a quantity is not guarded.
UNSCORED = "too few scored samples at the baseline"


class QuantityId(StrEnum):
    """The built-in guarded quantities."""

    ACCURACY = "accuracy"
    DIVERSITY = "diversity"
    WAYS = "ways"
    TAIL_ACCURACY = "tail_accuracy"
    TAIL_DIVERSITY = "tail_diversity"
    RARE_STRATEGIES = "rare_strategies"
    OVERCONFIDENCE = "overconfidence"
    SHORTCUT = "shortcut"
    OTHER_FAMILIES = "other_families"
    UNSCORED = "unscored"
    SOLVED = "solved"
    ALIVE = "alive"
    APART = "apart"
    CLUSTERS = "clusters"
    CANNED = "canned"
    ALIVE_CLUSTERS = "alive_clusters"
    OPEN = "open"
    TEXTS_OPEN = "texts_open"
    ANSWERED = "answered"
    LENGTH = "length"
    APPROVED = "approved"
    JUDGED = "judged"


WORDING = frozenset(
    {
        QuantityId.APART,
        QuantityId.CLUSTERS,
        QuantityId.CANNED,
        QuantityId.ALIVE_CLUSTERS,
        QuantityId.OPEN,
        QuantityId.TEXTS_OPEN,
        QuantityId.LENGTH,
    }
)
"""The quantities that any change of what is usually said moves, a wanted one as well."""
UNREVISED = "unrevised"
"""The name of their streams over the families that are not meant to change (`Limits.revised`)."""


def is_wording(quantity: str) -> bool:
    """Whether a stream's quantity is one of `WORDING`, over whatever families."""
    return quantity.partition("/")[0] in WORDING


class Harm(StrEnum):
    """How a simulation makes a quantity worse; see `harms.py`."""

    WRONG = "wrong"
    ONE_STRATEGY = "one_strategy"
    UNNAMED = "unnamed"
    SURE_AND_WRONG = "sure_and_wrong"
    ONE_ANSWER = "one_answer"
    DYING = "dying"
    ONE_CLUSTER = "one_cluster"
    ONE_TEXT = "one_text"
    DYING_CLUSTER = "dying_cluster"
    ZERO = "zero"


class Part(StrEnum):
    """Which problems a quantity is about."""

    ALL = "all"
    TAIL = "tail"
    OTHERS = "others"
    JUDGED = "judged"
    UNSCORED = "unscored"
    APPROVED = "approved"
    TEXTS = "texts"


@dataclass(frozen=True)
class Blocks:
    """What one quantity is computed from in one round; fields as in `guards.Quantity`.

    repicked: the score was picked on this round's samples, so that every planned round may compare
    with another mean of the baseline. It must have been picked on other samples than those of
    `pair`, on both sides.
    shown: in the place of the declaration's.
    one_block: of a problem with one block at the baseline.
    """

    size: int
    score: BlockScore
    pair: Pair
    undefined: str = ""
    idle: str = ""
    unit: str = "scored sample"
    note: str = ""
    repicked: bool = False
    exact: bool = False
    shown: tuple[float, float] | None = None
    one_block: BlockVariance | None = None


Found = Blocks | Mapping[str, Blocks] | None
"""What a declaration is computed from: nothing; one stream; or one for each name."""


@dataclass(frozen=True)
class GuardedQuantity:
    """The declaration of a quantity that must not get worse than tolerated.

    Attributes:
        id: its identity, in decision.json and over rounds.
        label: how it is called in sentences; `{size}` stands for the samples of a block, `{name}`
            for the name of one of several streams.
        statistic: of its estimand; `{size}` and `{name}` as in `label`.
        blocks: (tables, pass_k) -> what it is computed from; None: this probe set has no such
            quantity (no tail slice, no other families); by name, where a probe set has several of
            a kind: each is a stream of its own, with the id "id/name".
        tolerance: the key by which recipes set its tolerance; several quantities may share one.
        default: the tolerance, in the unit that is shown, or a share if `relative`.
        relative: whether the tolerance is a share of the baseline's value.
        ceiling: see `guards.Quantity`.
        shown: see `guards.Quantity`.
        why_missing: see `guards.Quantity`.
        family: of its estimand; `MAIN` stands for the main family.
        slice: of its estimand.
        samples: of its estimand.
        picked_at_baseline: whether what it counts was picked at the baseline. The table's reading
            picks at the run's first one, and is another number than that of a later baseline.
        share: of the evidence, fixed before the run; None: an even share of the rest.
        part: which problems it is about.
        harm: how a power analysis makes it worse.
    """

    id: str
    label: str
    statistic: str
    blocks: Callable[[Tables, int], Found]
    tolerance: str
    default: float
    relative: bool = False
    ceiling: float | None = None
    shown: tuple[float, float] = (0.0, 1.0)
    why_missing: str = UNSCORED
    family: str = MAIN
    slice: str = EVERY
    samples: str = PROBE
    picked_at_baseline: bool = False
    share: float | None = None
    part: Part = Part.ALL
    harm: Harm = Harm.WRONG

    def called(self, size: int, name: str = "") -> str:
        """How it is called in sentences; without a name, the brackets around one are left out."""
        found = self.label.format(size=size, name=name).removesuffix(" ()")
        is_part = self.id in WORDING and name == UNREVISED
        return f"{found} in families that are not revised" if is_part else found

    def estimand(self, main_family: str, size: int, name: str = "") -> Estimand:
        """What the quantity's value is called in a table of readings."""
        family = main_family if self.family == MAIN else self.family
        return Estimand(
            # A criterion may have any name, a statistic's may not hold the separator.
            self.statistic.format(size=size, name=name.replace(SEPARATOR, "_")),
            family,
            self.slice,
            self.samples,
        )


class Limits(Protocol):
    """What of the rule decides about quantities; see `DecisionRule`."""

    @property
    def guarded(self) -> tuple[GuardedQuantity, ...]: ...  # noqa: D102
    @property
    def pass_k(self) -> int: ...  # noqa: D102
    @property
    def rounds(self) -> int: ...  # noqa: D102
    @property
    def draws(self) -> int: ...  # noqa: D102
    @property
    def texts_since(self) -> int: ...  # noqa: D102
    @property
    def revised(self) -> tuple[str, ...]: ...  # noqa: D102
    def tolerance_of(self, declared: GuardedQuantity) -> float: ...  # noqa: D102


def quantities(
    tables: Tables,
    limits: Limits,
    baseline: int = 0,
    suffix: str = "",
    only: GuardedQuantity | None = None,
) -> Iterator[Quantity]:
    """All guarded quantities of a round beside one baseline.

    Args:
        tables: the baseline and the round.
        limits: what is guarded, with which tolerances.
        baseline: the baseline's round.
        suffix: what is added to names in sentences, so that baselines can be distinguished.
        only: one of what is guarded, the others' blocks are not computed; None: all.
    """
    for declared in limits.guarded if only is None else (only,):
        of, name_of_one, idle = tables, "", ""
        if baseline < limits.texts_since and declared.id in WORDING:
            if unrevised := _unrevised(declared, tables, limits):
                of, name_of_one = unrevised, UNREVISED
            else:
                idle = waiting(limits.texts_since)
        # None: this probe set has no such quantity, which is no fault.
        found = declared.blocks(of, limits.pass_k)
        if isinstance(found, Blocks):
            found = {name_of_one: found}
        for name, part in (found or {}).items():
            yield Quantity(
                stream=StreamId(stream_id(declared.id, name), baseline),
                name=declared.called(part.size, name) + suffix,
                size=part.size,
                score=part.score,
                pair=part.pair,
                tolerance=limits.tolerance_of(declared),
                relative=declared.relative,
                ceiling=declared.ceiling,
                shown=part.shown or declared.shown,
                why_missing=declared.why_missing,
                undefined=part.undefined,
                idle=idle or part.idle,
                unit=part.unit,
                note=part.note,
                num_picks=limits.rounds * limits.draws if part.repicked else 1,
                repicked=part.repicked,
                exact=part.exact,
                one_block=part.one_block,
            )


def _unrevised(declared: GuardedQuantity, tables: Tables, limits: Limits) -> Tables | None:
    """The families whose wording stays from the first round on; None: there is none."""
    # Entropies along real texts belong to no family.
    if not limits.revised or declared.part is Part.TEXTS:
        return None
    found = tables.without(limits.revised)
    return found if found.free is not None else None


def waiting(since: int) -> str:
    """Why wording is not compared with an earlier round than that one."""
    return f"texts are meant to change until round {since}"


def stream_id(id: str, name: str = "") -> str:
    """The quantity of a stream: the declaration's id, and the name of one of several."""
    return f"{id}/{name}" if name else str(id)


def declared_of(guarded: Sequence[GuardedQuantity], quantity: str) -> tuple[GuardedQuantity, str]:
    """The declaration of a stream's quantity, and the name of one of several."""
    known = {str(q.id): q for q in guarded}
    if quantity in known:
        return known[quantity], ""
    # The longest id that it begins with: a declaration of somebody else's may hold a slash.
    heads = [id for id in known if quantity.startswith(f"{id}/")]
    id = max(heads, key=len)
    return known[id], quantity[len(id) + 1 :]


def first_shares(limits: Limits, baseline: int = 0) -> dict[StreamId, float]:
    """The shares of the evidence that are fixed ahead of the others, those of the first baseline.

    Streams of later baselines share the rest evenly with all others.
    """
    return {StreamId(q.id, baseline): q.share for q in limits.guarded if q.share is not None}


def wrong_shares(guarded: Sequence[GuardedQuantity]) -> list[str]:
    """What is wrong with the shares of the evidence that are fixed ahead; empty: nothing."""
    named = {str(q.id): q.share for q in guarded if q.share is not None}
    wrong = [
        f"guarded quantity {id!r}: share = {share:g}: expected a number in (0, 1)"
        for id, share in named.items()
        if not 0 < share < 1
    ]
    # They would all be given up for even ones.
    if not wrong and sum(named.values()) >= 1:
        shares = ", ".join(f"{id} {share:g}" for id, share in named.items())
        wrong.append(f"guarded quantities: shares of {shares}: expected less than 1 in all")
    return wrong
