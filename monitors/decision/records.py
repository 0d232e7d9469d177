"""A decision and its parts. `to_json` and `from_json` follow the fields by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from ouroloop.monitors import records
from ouroloop.monitors.names import Action, FailureMode, Tier

NAN = float("nan")
# The last one in a key counts, whatever a quantity's id holds.
SEPARATOR = "@"


@dataclass(frozen=True, order=True)
class StreamId:
    """The identity of a stream of evidence: a guarded quantity since a baseline round."""

    quantity: str
    baseline: int = 0

    def __str__(self) -> str:
        """As a key of a JSON object: "accuracy@0"."""
        return f"{self.quantity}{SEPARATOR}{self.baseline}"

    @classmethod
    def parse(cls, text: str) -> StreamId:
        """The stream of such a key.

        Raises:
            ValueError: no quantity, or no round.
        """
        quantity, found, baseline = text.rpartition(SEPARATOR)
        if not found or not quantity or not baseline.isdigit():
            raise ValueError(f"{text!r} is no stream id: expected one such as accuracy@0.")
        return cls(quantity, int(baseline))


Bets = Mapping[StreamId, tuple[float, ...]]
"""Log growth of each bet on a stream in one round."""


@dataclass(frozen=True)
class RoundBets:
    """What a round's samples won or lost: what later rounds go on from.

    Attributes:
        watch: bets on a loss beyond WATCH's share of the tolerance.
        halt: bets on a loss beyond the whole tolerance.
        recover: bets on being back within the tolerance.
    """

    watch: Bets
    halt: Bets
    recover: Bets

    def of(self, tier: Tier) -> Bets:
        """The bets of a tier."""
        return self.watch if tier is Tier.WATCH else self.halt


@dataclass(frozen=True)
class TierEvidence:
    """The evidence of one tier after this round.

    Attributes:
        log_e: log e-value of all streams together.
        log_limit: what it must reach.
        alpha: false alarms allowed since the last fresh start.
        driver: the stream that brings most of it; None when there is no stream.
        since: the likeliest first round of the driver's loss.
        by_quantity: log e-value of each stream.
    """

    log_e: float
    log_limit: float
    alpha: float
    driver: StreamId | None
    since: int
    by_quantity: Mapping[StreamId, float]

    @property
    def reached(self) -> bool:
        """Whether the tier acts."""
        return bool(self.by_quantity) and self.log_e >= self.log_limit


@dataclass(frozen=True)
class OfStream:
    """What is said of one stream.

    Attributes:
        quantity: id of the guarded quantity.
        baseline: the baseline's round.
        name: how it is called in sentences; for display only.
    """

    quantity: str
    baseline: int
    name: str

    @property
    def stream(self) -> StreamId:
        """Its identity."""
        return StreamId(self.quantity, self.baseline)


@dataclass(frozen=True)
class GuardReading(OfStream):
    """A guarded quantity of this round beside its baseline.

    Attributes:
        before: at the baseline. The reading of `estimand` where both rounds have one, else the
            mean of the compared problems' block scores.
        after: the same in this round.
        change: paired by problem, of the compared problems; a share of the baseline if `relative`.
        low: end of its two-sided interval at `level`.
        high: see `low`.
        level: 1 - alpha / planned rounds, so that all intervals of a run hold at once.
        relative: whether change and tolerance are shares of the baseline's value.
        up_is_better: whether a fall is a loss.
        num_problems: problems compared.
        tolerance: how much worse it may get.
        loss_in_tolerances: the loss seen, in tolerances; negative when it got better.
        baseline_se: standard error of the baseline's mean, problems fixed.
        estimand: id of the readings that `before` and `after` are; "" where they are block means.
        note: what else a reader of the numbers must know.
        seen_from: the share of the samples that WATCH would call at once, had they scored 0; above
            1: not even all of them. None where it is not worked out: scored samples.
    """

    before: float
    after: float
    change: float
    low: float
    high: float
    level: float
    relative: bool
    up_is_better: bool
    num_problems: int
    tolerance: float
    loss_in_tolerances: float
    baseline_se: float = NAN
    estimand: str = ""
    note: str = ""
    seen_from: float | None = None


@dataclass(frozen=True)
class Unmeasured(OfStream):
    """A quantity on which nothing was bet in this round, and why."""

    reason: str


@dataclass(frozen=True)
class Audit(OfStream):
    """What became of the quantity that drove an earlier action.

    Attributes:
        round: the action's round.
        action: what was done.
        log_e: evidence that it is back within its tolerance.
        rounds: rounds since the action.
        recovered: whether that evidence has reached HALT's limit.
    """

    round: int
    action: Action
    log_e: float
    rounds: int
    recovered: bool


@dataclass(frozen=True)
class Decision:
    """What should happen next, and why, in sentences with numbers.

    Attributes:
        round: the round decided on.
        action: what should happen.
        reasons: sentences.
        mode: the failure mode that the decline looks like.
        evidence: of both tiers; empty where nothing was weighed.
        guards: the guarded quantities that were measured.
        factors: the round's bets; None where nothing was weighed.
        audits: of earlier actions, oldest first.
        unmeasured: the quantities that were not measured.
        starved: too few samples were kept to train on.
        carried_out: false when the decision was recorded and not acted upon.
    """

    round: int
    action: Action
    reasons: tuple[str, ...]
    mode: FailureMode | None = None
    evidence: Mapping[Tier, TierEvidence] = field(default_factory=dict)
    guards: tuple[GuardReading, ...] = ()
    factors: RoundBets | None = None
    audits: tuple[Audit, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    starved: bool = False
    carried_out: bool = True

    @property
    def spoke(self) -> StreamId | None:
        """The stream that drove the tier that acted; None where no tier did."""
        for tier in (Tier.HALT, Tier.WATCH):
            if tier in self.evidence and self.evidence[tier].reached:
                return self.evidence[tier].driver
        return None

    @property
    def has_halt_evidence(self) -> bool:
        """Whether HALT's limit is reached; a round may halt without, see `DecisionRule`."""
        return Tier.HALT in self.evidence and self.evidence[Tier.HALT].reached

    def driver_name(self, tier: Tier) -> str:
        """How the stream that drives a tier's evidence is called; "" without one."""
        # A driver without a reading in this round still has its name among the unmeasured.
        driver = self.evidence[tier].driver if tier in self.evidence else None
        entries: tuple[OfStream, ...] = (*self.guards, *self.unmeasured)
        named = {entry.stream: entry.name for entry in entries}
        return "" if driver is None else named.get(driver, str(driver))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, a key per field."""
        found: dict[str, Any] = records.to_json(self)
        return found

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Decision:
        """The decision of such values.

        Raises:
            TypeError: a field is missing.
            ValueError: a value is not possible, such as an unknown action.
        """
        return records.from_json(cls, raw)


def plain(log_e: float) -> str:
    """An e-value for a sentence: 3 digits below a thousand, powers of ten above."""
    return f"{exp(log_e):.3g}" if log_e < log(1000) else f"1e{log_e / log(10):.0f}"
