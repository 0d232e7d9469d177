"""The monitors' contract: a RoundView in, Readings out.

Read-only; undefined is NaN with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.estimators.estimand import Estimand

Floats = NDArray[np.float64]
Objects = NDArray[np.object_]


@dataclass(frozen=True)
class Samples:
    """Samples of a fixed panel, one row each (`_N` rows, ragged groups allowed).

    Clusters are problems.

    problem_N, family_N, slice_N: str. correct_N and valid_N: 1, 0 or NaN (unscored). strategy_N,
    answer_N: str or None. nll_N: mean negative log-probability per token of the row's own tokens at
    temperature 1, nats/token (NaN if unknown). num_tokens_N: completion tokens. truncated_N: 1 when
    cut by length. text_N: str.
    """

    problem: Objects
    family: Objects
    slice: Objects
    correct: Floats
    valid: Floats
    strategy: Objects
    answer: Objects
    nll: Floats
    num_tokens: Floats
    truncated: Floats
    text: Objects

    def __len__(self) -> int:
        return len(self.problem)

    def where(self, mask: NDArray[np.bool_]) -> Samples:
        """The rows where `mask` is true, in order."""
        return Samples(**{name: getattr(self, name)[mask] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Critics:
    """Critiques with known truth, one row each. approved_N: 1, 0 or NaN (unreadable).

    Probability_N: P(approve) or NaN.

    correct_N: whether the judged text was right (1, 0, NaN). problem_N: cluster. agreement_N: vote
    share of the text's answer, or NaN.
    """

    problem: Objects
    approved: Floats
    probability: Floats
    correct: Floats
    agreement: Floats


@dataclass(frozen=True)
class Pool:
    """The round's raw training pool, before and after the filter. kept_N: bool.

    Reason_N: first reason or "".

    valid_N and approved_N (by the critic): 1, 0 or NaN; text_N: str; slice_N: str. None: not known
    of any row.
    """

    problem: Objects
    strategy: Objects
    answer: Objects
    correct: Floats
    kept: NDArray[np.bool_]
    reason: Objects
    valid: Floats | None = None
    approved: Floats | None = None
    text: Objects | None = None
    slice: Objects | None = None


@dataclass(frozen=True)
class Texts:
    """A fixed real text under the round's model, teacher-forced; the same rows in every round.

    Clusters are problems.

    nll_N: mean negative log-probability of its completion's tokens, nats/token. entropy_N: mean
    entropy of the model's next-token distribution along it, nats/token (NaN if unknown).
    num_tokens_N: completion tokens.
    """

    problem: Objects
    nll: Floats
    entropy: Floats
    num_tokens: Floats


@dataclass(frozen=True)
class AuditItems:
    """Planted items of known truth, as the round's filter judged them. right_N: 1 or 0.

    Accepted_N: 1, 0 or NaN (no verdict).
    """

    problem: Objects
    right: Floats
    accepted: Floats


@dataclass(frozen=True)
class RoundView:
    """All that a monitor may see of one round. Round 0 is the starting model: it has no pool."""

    round: int
    probe: Samples
    greedy: Samples | None = None
    critics: Critics | None = None
    pool: Pool | None = None
    texts: Texts | None = None
    audit: AuditItems | None = None


@dataclass(frozen=True)
class Reading:
    """One number with its interval. NaN value needs a `reason`.

    Attributes:
        estimand: what it is a number of; no two readings of a round have the same.
        value: the estimate, in `unit`; NaN where it is undefined.
        low: lower end of the 95 % interval from within the round (cluster = problem).
        high: its upper end.
        unit: "share", "nats", ..., or empty for a pure number.
        num_clusters: problems behind it.
        better: which way is healthy.
        status: "error" when its monitor raised.
        reason: why it is undefined; also a remark on a defined one.
        details: JSON-able: per family, curves, shares.
    """

    estimand: Estimand
    value: float
    low: float = float("nan")
    high: float = float("nan")
    unit: str = ""
    num_clusters: int = 0
    better: Literal["up", "down", "none"] = "none"
    status: Literal["ok", "undefined", "error"] = "ok"
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The estimand's id, the reading's only name."""
        return self.estimand.id

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, the estimand by its id; undefined numbers are null."""
        numbers = {key: getattr(self, key) for key in NUMBERS}
        return {
            "id": self.name,
            **{key: float(x) if np.isfinite(x) else None for key, x in numbers.items()},
            "unit": self.unit,
            "num_clusters": self.num_clusters,
            "better": self.better,
            "status": self.status,
            "reason": self.reason,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Reading:
        """The reading that `to_json` wrote.

        Raises:
            ValueError: its id is not an estimand's.
        """
        fields: dict[str, Any] = {key: raw[key] for key in raw if key != "id"}
        fields |= {key: float("nan") if raw[key] is None else float(raw[key]) for key in NUMBERS}
        return cls(Estimand.parse(raw["id"]), **fields)


NUMBERS = ("value", "low", "high")


class Monitor(Protocol):
    """A dataclass whose fields are its configuration.

    `reference` is round 0's view, frozen (None in round 0).
    """

    @property
    def name(self) -> str:
        """What its readings begin with."""
        ...

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read the round; never change it."""
        ...
