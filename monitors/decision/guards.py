"""The guarded quantities: what must not get worse than tolerated since the anchor.

Each compared problem by problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Samples
from ouroloop.monitors.decision.blocks import BlockScore, Table, block_scores
from ouroloop.monitors.decision.evidence import Stream
from ouroloop.monitors.estimators.scores import Scores
from ouroloop.monitors.estimators.stats import Estimate, paired, ratio
from ouroloop.monitors.metrics.readings import number

NUM_GROUPS = 4


@dataclass(frozen=True)
class Quantity:
    """The mean of a block score, and how much worse it may get than at the anchor.

    now, anchor: the same problems in the same order. size: samples of a block. score: up is good.
    tolerance: in the unit that is shown, or a share of the anchor's mean if `relative`. ceiling:
    the anchor's scores are replaced by it when their mean lies above it (None: never). shown: what
    a reader sees is shown[0] + shown[1] * score. why_missing: what to say when the anchor could not
    measure it. undefined, idle: why the panel can have no such quantity, or nothing can be bet on
    it in this round, where that is known before any score is taken.
    """

    name: str
    size: int
    score: BlockScore
    anchor: Table
    now: Table
    tolerance: float
    why_missing: str
    relative: bool = False
    ceiling: float | None = None
    shown: tuple[float, float] = (0.0, 1.0)
    undefined: str = ""
    idle: str = ""

    def guard(self, baseline: Baseline | None = None) -> Guard | Idle | str | None:
        """Compare over the problems that both sides score.

        Args: baseline: what `self.baseline()` gave in an earlier round with the same anchor and
            score.

        Returns: A Guard; or why the panel has no such quantity (a text: it never had, at this
            anchor); or Idle when this round's samples are too few for one block; or None when the
            round has lost it.
        """
        if self.undefined or (too_few := _too_few(self.anchor, self.size)):
            return self.undefined or too_few
        baseline = baseline or self.baseline()
        measured_P = np.isfinite(baseline.mean_P)
        if measured_P.sum() < 2 or (self.relative and not np.nansum(baseline.mean_P) > 0):
            return self.why_missing
        if self.idle:
            return Idle(self.name, self.idle)
        now_PRM = block_scores(self.now, self.size, self.score)
        both_P = measured_P & np.isfinite(now_PRM).any(axis=(1, 2))
        if both_P.sum() < 2 <= (measured_P & self.now.there_PK.any(axis=1)).sum():
            return Idle(
                self.name,
                f"fewer than two problems have the {self.size} scored samples that it needs in this"
                " round",
            )
        anchor_P = baseline.mean_P[both_P]
        if len(anchor_P) < 2 or (self.relative and not anchor_P.sum() > 0):
            return None
        se, note, spare = baseline.se(both_P), "", 0.0
        if self.ceiling is not None and anchor_P.mean() > self.ceiling:
            before, least = (
                self.shown[0] + self.shown[1] * x for x in (float(anchor_P.mean()), self.ceiling)
            )
            note = (
                f"the anchor had {before:.3f}: measured against {least:.3g}, no harm is done up to"
                " there"
            )
            spare, anchor_P = (
                float(anchor_P.mean()) - self.ceiling,
                np.full(len(anchor_P), self.ceiling),
            )
        tolerance = self.tolerance / abs(self.shown[1])
        return Guard(
            self,
            Stream(self.name, anchor_P, now_PRM[both_P], se, tolerance, self.relative, spare),
            note,
        )

    def baseline(self) -> Baseline:
        """The anchor's side. The variance of a mean is the spread between groups of the problem's samples.

        Too few samples for two groups: the most that such scores can vary.
        """
        mean_P = _mean_P(block_scores(self.anchor, self.size, self.score))
        wide = self.anchor.there_PK.shape[1]
        num_groups = min(NUM_GROUPS, wide // self.size)
        variance_P = mean_P * (1 - mean_P)
        if num_groups > 1:
            each = wide // num_groups
            parts = [
                block_scores(
                    self.anchor.columns(slice(g * each, (g + 1) * each)), self.size, self.score
                )
                for g in range(num_groups)
            ]
            known = np.array([_mean_P(part) for part in parts])
            variance_P = np.where(
                np.isfinite(known).all(axis=0), known.var(axis=0, ddof=1) / num_groups, variance_P
            )
        return Baseline(mean_P, variance_P, self.anchor.there_PK.sum(axis=1))


def _too_few(anchor: Table, size: int) -> str:
    """Why the anchor has not one block of `size`; empty when it has."""
    most = int(anchor.there_PK.sum(axis=1).max(initial=0))
    if most >= size:
        return ""
    if most == 0:
        return "no scored sample at the anchor"
    return (
        f"at most {most} scored sample{'s' * (most > 1)} per problem at the anchor, and {size} are"
        " needed"
    )


@dataclass(frozen=True)
class Idle:
    """A quantity of the panel on which nothing can be bet in this round.

    Its evidence stays what it was. reason: why.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Baseline:
    """A score at the anchor, per problem: its mean (NaN.

    Not measured), the variance of that mean by sampling, the number of samples.
    """

    mean_P: Floats
    variance_P: Floats
    num_P: NDArray[np.int64]

    def se(self, chosen_P: NDArray[np.bool_]) -> float:
        """Standard error of the mean over some problems, which are fixed.

        Never below that of 2 samples among all: no spread in a finite sample is no proof of
        certainty.
        """
        spread = float(np.sqrt(self.variance_P[chosen_P].sum())) / int(chosen_P.sum())
        return max(spread, 2 / max(int(self.num_P[chosen_P].sum()), 1))


@dataclass(frozen=True)
class Guard:
    """A quantity measured on both sides."""

    quantity: Quantity
    stream: Stream
    note: str = ""

    @property
    def name(self) -> str:
        """The quantity's name."""
        return self.quantity.name

    @property
    def loss(self) -> float:
        """How much the mean fell, in tolerances; negative when it rose."""
        anchor, now = float(self.stream.anchor_P.mean()), float(self._now_P().mean())
        tolerated = self.stream.tolerance * (anchor if self.stream.relative else 1.0)
        return (anchor - now) / tolerated if tolerated > 0 else anchor - now

    def change(self, level: float = 0.95) -> Estimate:
        """The difference now - anchor as shown, or now / anchor - 1 if relative.

        Paired by problem, two-sided interval of this level.
        """
        start, scale = self.quantity.shown
        now_P, anchor_P = (start + scale * x for x in (self._now_P(), self.stream.anchor_P))
        if self.quantity.relative:
            value, low, high, num = ratio(now_P, anchor_P, level)
            return Estimate(value - 1, max(low, 0.0) - 1, high - 1, num)
        now, then = ({str(i): float(x) for i, x in enumerate(x_P)} for x_P in (now_P, anchor_P))
        return paired(now, then, bound=abs(scale)).interval(level)

    def sentence(self, level: float = 0.95) -> str:
        """Name, both values, the change with its interval, and the tolerance."""
        relative, change = self.quantity.relative, self.change(level)
        start, scale = self.quantity.shown
        limit = -self.quantity.tolerance * (1 if scale > 0 else -1)
        moved = [f"{100 * x:+.0f} %" if relative else f"{x:+.3f}" for x in (*change[:3], limit)]
        before, after = (
            start + scale * float(x.mean()) for x in (self.stream.anchor_P, self._now_P())
        )
        text = (
            f"{self.name} {before:.3f} -> {after:.3f} ({moved[0]}, {moved[1]} to {moved[2]};"
            f" tolerated {moved[3]})"
        )
        return f"{text} [{self.note}]" if self.note else text

    def to_json(self, level: float) -> dict[str, Any]:
        """Everything that a reader may want to see; `level` is that of the interval."""
        start, scale = self.quantity.shown
        before, after = (
            start + scale * float(x.mean()) for x in (self.stream.anchor_P, self._now_P())
        )
        change = self.change(level)
        return {
            "name": self.name,
            "before": before,
            "after": after,
            "change": number(change.value),
            "low": number(change.low),
            "high": number(change.high),
            "level": level,
            "relative": self.quantity.relative,
            "num_problems": change.num_clusters,
            "tolerance": self.quantity.tolerance,
            "loss_in_tolerances": number(self.loss),
            "anchor_se": self.stream.anchor_se,
        }

    def _now_P(self) -> Floats:
        return _mean_P(self.stream.block_PRM)


def _mean_P(block_PRM: Floats) -> Floats:
    """Mean over a problem's blocks; NaN without any."""
    known = np.isfinite(block_PRM)
    num_P = known.sum(axis=(1, 2))
    return np.where(
        num_P > 0, np.where(known, block_PRM, 0.0).sum(axis=(1, 2)) / np.maximum(num_P, 1), np.nan
    )


def direction(current: Scores, reference: Scores, level: float = 0.05) -> int:
    """+1 or -1 when the paired mean rose or fell at this two-sided level, else 0.

    For naming a mode; never an alarm.
    """
    difference = paired(current, reference)
    if difference.num_clusters < 2:
        return 0
    low, high = difference.interval(1 - level)[1:3]
    return 1 if low > 0 else -1 if high < 0 else 0


def families_of(samples: Samples, problems: tuple[str, ...]) -> Any:
    """Family code of each problem, (P,)."""
    family = dict(zip(samples.problem, samples.family, strict=True))
    names = sorted({family[p] for p in problems})
    return np.array([names.index(family[p]) for p in problems], dtype=np.int64)
