"""The monitors' contract: a RoundView in, Readings out.

A monitor changes nothing. What is undefined is NaN with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.columns import Column
from ouroloop.monitors.estimators.estimand import Estimand

Floats = NDArray[np.float64]
Objects = NDArray[np.object_]


@dataclass(frozen=True)
class Samples:
    """Samples of a fixed probe set, one row each; every field has the shape (N,).

    Problems are the clusters, and may have unequal numbers of rows.

    Attributes:
        problem: its id.
        family: of the problem.
        slice: of the problem: "typical" or "tail".
        correct: 1, 0 or NaN (unscored).
        valid: whether every step is right: 1, 0 or NaN.
        strategy: its name, or None.
        answer: the final answer in its one spelling, or None.
        nll: mean negative log-probability per token of the row's own tokens at temperature 1,
            nats/token (NaN if unknown).
        num_tokens: completion tokens.
        truncated: 1 when cut by length.
        text: the completion.
        cluster: the response cluster's label, or None; of a clustering that was fitted on the
            baseline's texts and is frozen. By default nobody has one.
        approvals: criterion -> 1, 0 or NaN (not judged), by a frozen judge.
        asked: 1 where a frozen judge was asked about the row, else 0; NaN, the default: not known.
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
    cluster: Objects = field(default_factory=lambda: np.empty(0, dtype=object))
    approvals: Mapping[str, Floats] = field(default_factory=dict)
    asked: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        # The defaults know no length; every row gets its None or NaN here.
        if not len(self.cluster) and len(self.problem):
            object.__setattr__(self, "cluster", np.full(len(self.problem), None, dtype=object))
        if not len(self.asked) and len(self.problem):
            object.__setattr__(self, "asked", np.full(len(self.problem), np.nan))
        for name in NAMES:
            object.__setattr__(self, name, Column.of(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.problem)

    def where(self, mask: NDArray[np.bool_]) -> Samples:
        """The rows where `mask` is true, in order."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        approvals = {name: values[mask] for name, values in fields.pop("approvals").items()}
        return Samples(
            **{name: values[mask] for name, values in fields.items()},
            approvals=approvals,
        )


@dataclass(frozen=True)
class Critics:
    """Critiques with known truth, one row each; every field has the shape (N,).

    Attributes:
        problem: the cluster.
        approved: 1, 0 or NaN (unreadable).
        probability: P(approve) or NaN.
        correct: whether the judged text was right: 1, 0 or NaN.
        agreement: vote share of the text's answer, or NaN.
    """

    problem: Objects
    approved: Floats
    probability: Floats
    correct: Floats
    agreement: Floats


@dataclass(frozen=True)
class Pool:
    """The round's raw training pool, before and after the filter, one row per sample.

    A field that is None is not known of any row.

    Attributes:
        problem: the cluster.
        strategy: its name, or None.
        answer: the final answer, or None.
        correct: 1, 0 or NaN (unscored).
        kept: whether it passed the filter.
        reason: the first reason against it, or "".
        valid: whether every step is right: 1, 0 or NaN.
        approved: by the critic: 1, 0 or NaN.
        text: the sample.
        slice: of the problem.
        cluster: the response cluster's label, or None.
        like_critique: how like the critique that it answers a revision is (`likeness` in
            metrics/revisions.py), [0, 1]; NaN where there is none.
        like_draft: how like the text that it revises, likewise.
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
    cluster: Objects | None = None
    like_critique: Floats | None = None
    like_draft: Floats | None = None


@dataclass(frozen=True)
class Texts:
    """A fixed real text under the round's model, teacher-forced; the same rows in every round.

    Attributes:
        problem: the cluster.
        nll: mean negative log-probability of its completion's tokens, nats/token.
        entropy: mean entropy of the model's next-token distribution along it, nats/token (NaN if
            unknown).
        num_tokens: completion tokens.
    """

    problem: Objects
    nll: Floats
    entropy: Floats
    num_tokens: Floats


@dataclass(frozen=True)
class Traces:
    """Answers of round 0's model under the round's model, teacher-forced.

    The same rows in every round.

    Attributes:
        problem: the cluster.
        family: of the problem.
        slice: of the problem.
        group: the answer's strategy; its response cluster where nobody scored the problem.
        share: of the problem's answers in round 0, those of the group.
        text: the answer.
        logprob: log-probability of the whole answer at temperature 1, nats; NaN if unknown.
        num_tokens: completion tokens, the stop token among them.
    """

    problem: Objects
    family: Objects
    slice: Objects
    group: Objects
    share: Floats
    text: Objects
    logprob: Floats
    num_tokens: Floats


@dataclass(frozen=True)
class AuditItems:
    """Planted items of known truth, as the round's filter judged them.

    Attributes:
        problem: the cluster.
        right: 1 or 0.
        accepted: 1, 0 or NaN (no verdict).
    """

    problem: Objects
    right: Floats
    accepted: Floats


@dataclass(frozen=True)
class Judgements:
    """Verdicts of a frozen judge, one row each; every field has the shape (N,).

    Attributes:
        problem: the cluster.
        family: of the problem; "" for planted items.
        criterion: what was judged.
        principle: the one of the criterion's principles that was asked about.
        approved: 1, 0 or NaN (unreadable).
        truth: whether a planted item deserves approval: 1 or 0; NaN for answers of the probe set.
        num_tokens: of the judge's prompt and verdict.
    """

    problem: Objects
    family: Objects
    criterion: Objects
    principle: Objects
    approved: Floats
    truth: Floats
    num_tokens: Floats


@dataclass(frozen=True)
class RoundView:
    """All that a monitor may see of one round; None: the round has none of it.

    Attributes:
        round: its number; round 0 is the starting model and has no pool.
        probe: the samples of the probe set.
        greedy: one greedy answer per problem.
        critics: critiques of known truth.
        pool: the training pool.
        texts: real text, scored.
        audit: planted items.
        judge: verdicts of a frozen judge.
        dropped: the problems of samples that no server answered; the pool has no row of them.
        traces: round 0's answers, scored.
        draws: the same samples as in `probe`, draw by draw, where the probe set was drawn more than
            once because the evidence was near a limit.
        fits_clusters: response clusters were fitted on this very probe, by its problems' means:
            fresh samples of the same model lie nearer to each other.
    """

    round: int
    probe: Samples
    greedy: Samples | None = None
    critics: Critics | None = None
    pool: Pool | None = None
    texts: Texts | None = None
    audit: AuditItems | None = None
    judge: Judgements | None = None
    dropped: Objects | None = None
    traces: Traces | None = None
    draws: tuple[Samples, ...] = ()
    fits_clusters: bool = False

    def by_draw(self) -> tuple[RoundView, ...]:
        """A view for each draw of the probe set; the first one has all that was measured once."""
        if len(self.draws) < 2:
            return (self,)
        first, *further = self.draws
        # Texts and traces are scored once a round: a second bet on them would count them twice.
        others = (RoundView(self.round, draw) for draw in further)
        return (replace(self, probe=first, draws=()), *others)


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
        # JSON has no NaN: null stands for it.
        fields |= {key: float("nan") if raw[key] is None else float(raw[key]) for key in NUMBERS}
        return cls(Estimand.parse(raw["id"]), **fields)


# The fields of `Samples` that hold strings or None.
NAMES = ("problem", "family", "slice", "strategy", "answer", "text", "cluster")
# The fields that may be NaN.
NUMBERS = ("value", "low", "high")


class Monitor(Protocol):
    """A dataclass whose fields are its configuration."""

    @property
    def name(self) -> str:
        """What its readings begin with."""
        ...

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read the round; never change it.

        Args:
            view: the round.
            reference: round 0's view, frozen; None in round 0.
        """
        ...
