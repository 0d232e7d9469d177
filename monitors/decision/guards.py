"""One guarded quantity of one round beside a baseline, compared problem by problem.

Knows neither which quantities there are nor what is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision.baseline_error import BaselineScores
from ouroloop.monitors.decision.blocks import (
    BlockScore,
    BlockVariance,
    block_scores,
    check_scores,
    problem_means,
)
from ouroloop.monitors.decision.records import GuardReading, StreamId
from ouroloop.monitors.decision.stakes import Stream
from ouroloop.monitors.decision.tables import Pair, Table
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import Scores
from ouroloop.monitors.estimators.stats import Estimate, cut, paired, ratio

# The variances are summed over problems, so that few groups each will do; with more, blocks of
# eight would not fit into a group of a usual baseline (32 samples of each problem).
NUM_GROUPS = 4


ONE_PROBLEM = "the baseline measures it on one problem, and a paired change needs two"
NOTHING_TO_LOSE = (
    "what this round's samples picked is not in the half of the baseline that measures"
)


class Why(StrEnum):
    """Why a quantity has no guard in a round."""

    ABSENT = "absent"
    """The baseline could not measure it: it is not guarded at all."""
    IDLE = "idle"
    """This round's samples are too few; its evidence stays what it was."""
    LOST = "lost"
    """The baseline could measure it, and this round has none of it left."""


@dataclass(frozen=True)
class Missing:
    """A quantity without a guard in this round, and why."""

    quantity: Quantity
    why: Why
    reason: str

    @property
    def id(self) -> StreamId:
        """The stream's identity."""
        return self.quantity.stream


@dataclass(frozen=True)
class Quantity:
    """The mean of a block score, and how much worse it may get than at the baseline.

    Attributes:
        stream: its identity.
        name: how it is called in sentences; nothing depends on it.
        size: samples of a block.
        score: of a block; up is good.
        pair: the baseline's and the round's samples.
        tolerance: in the unit that is shown, or a share of the baseline's mean if `relative`.
        relative: see `tolerance`.
        ceiling: the baseline's scores are replaced by it when their mean lies above it (None:
            never): up to there, getting worse does no harm.
        shown: what a reader sees is shown[0] + shown[1] * score.
        why_missing: what to say when the baseline could not measure it.
        undefined: why it is not guarded at all, where that is known before any score is taken.
        idle: why nothing can be bet on it in this round, where that is known before.
        unit: what a row is called where there are too few of them.
        note: what a reader of the numbers must know.
        num_picks: how many means of the baseline the run may compare with; see `stakes.Stream`.
        repicked: the score is another one in every round, and with it the baseline's side.
        exact: the scores are no samples: the baseline's mean has no noise.
        one_block: see `declaration.Blocks`; None: the most that such scores can vary.
    """

    stream: StreamId
    name: str
    size: int
    score: BlockScore
    pair: Pair
    tolerance: float
    relative: bool = False
    ceiling: float | None = None
    shown: tuple[float, float] = (0.0, 1.0)
    why_missing: str = "not measured at the baseline"
    undefined: str = ""
    idle: str = ""
    unit: str = "scored sample"
    note: str = ""
    num_picks: int = 1
    repicked: bool = False
    exact: bool = False
    one_block: BlockVariance | None = None

    @property
    def up_is_better(self) -> bool:
        """Whether a fall of what is shown is a loss."""
        return self.shown[1] > 0

    def as_shown(self, score: float) -> float:
        """A score in the unit that a reader sees."""
        return self.shown[0] + self.shown[1] * score

    def guard(self, known: BaselineScores | None = None) -> Guard | Missing:
        """Compare over the problems that both sides score.

        Args:
            known: what `self.baseline_scores()` gave in an earlier round with the same baseline
                and score.
        """
        if why := self.undefined or _too_few(self.pair.baseline, self.size, self.unit):
            return Missing(self, Why.ABSENT, why)
        # The costly side, and always the same: the caller may keep it.
        baseline = known or self.baseline_scores()
        # A paired change needs two problems, a share something to be a share of.
        measured_P = np.isfinite(baseline.mean_P)
        if measured_P.sum() == 1:
            return Missing(self, Why.ABSENT, ONE_PROBLEM)
        if not measured_P.any():
            return Missing(self, Why.ABSENT, self.why_missing)
        if self.relative and not np.nansum(baseline.mean_P) > 0:
            return self._nothing_of_it(Why.ABSENT, self.why_missing)
        if self.idle:
            return Missing(self, Why.IDLE, self.idle)
        now_PRM = block_scores(self.pair.now, self.size, self.score)
        check_scores(self.stream.quantity, baseline.mean_P, now_PRM)
        # Problems that this round lacks are left out of both sides: the comparison stays paired.
        both_P = measured_P & np.isfinite(now_PRM).any(axis=(1, 2))
        if both_P.sum() < 2 <= (measured_P & self.pair.now.there_PK.any(axis=1)).sum():
            why = (
                f"fewer than two problems have the {self.size} {self.unit}s that it needs in this"
                " round"
            )
            return Missing(self, Why.IDLE, why)
        baseline_P = baseline.mean_P[both_P]
        lost = f"{self.name} cannot be measured any more"
        if len(baseline_P) < 2:
            return Missing(self, Why.LOST, lost)
        if self.relative and not baseline_P.sum() > 0:
            return self._nothing_of_it(Why.LOST, lost)
        se = 0.0 if self.exact else baseline.se(both_P)
        of_baseline = se, baseline.df(both_P), baseline.num_blocks(both_P, self.size)
        return self._guard(baseline_P, now_PRM[both_P], *of_baseline)

    def _nothing_of_it(self, why: Why, reason: str) -> Missing:
        """Without anything at the baseline of which a share could be lost."""
        # Picked anew in every round, it is only this round's pick that has none: the stream stays,
        # or the others' shares of the evidence would depend on what was seen.
        if self.repicked:
            return Missing(self, Why.IDLE, self.idle or NOTHING_TO_LOSE)
        return Missing(self, why, reason)

    def _guard(
        self,
        baseline_P: Floats,
        now_PRM: Floats,
        se: float,
        df: float,
        num_blocks: int,
    ) -> Guard:
        """A stream from `baseline_P`, or from the ceiling where that lies below its mean."""
        mean = float(baseline_P.mean())
        start_P, spare, note = baseline_P, 0.0, self.note
        if self.ceiling is not None and mean > self.ceiling:
            start_P, spare = np.full(len(baseline_P), self.ceiling), mean - self.ceiling
            note = f"the change counts from {self.as_shown(self.ceiling):.3g}: no harm up to there"
        # Bets are on scores; the tolerance is in the unit that is shown, or a share.
        tolerance = self.tolerance if self.relative else self.tolerance / abs(self.shown[1])
        stream = Stream(
            start_P,
            now_PRM,
            se,
            tolerance,
            self.relative,
            spare,
            num_picks=self.num_picks,
            df=df,
            num_blocks=num_blocks,
        )
        return Guard(self, stream, mean, note)

    def baseline_scores(self) -> BaselineScores:
        """The baseline's side.

        The variance of a mean is the spread between groups of the problem's samples. With too few
        samples for two groups it is what `one_block` says, or the most that such scores can vary.
        """
        baseline = self.pair.baseline
        # Over all columns; the groups below serve the variance only.
        mean_P = problem_means(block_scores(baseline, self.size, self.score))
        wide = baseline.there_PK.shape[1]
        num_groups = min(NUM_GROUPS, wide // self.size)
        num_P = baseline.there_PK.sum(axis=1)
        is_single_P = num_P // self.size == 1
        # No score in [0, 1] of this mean varies more than one that is 0 or 1.
        variance_P = mean_P * (1 - mean_P)
        if self.one_block is not None:
            variance_P = np.where(is_single_P, self.one_block(baseline, self.size), variance_P)
        elif np.isfinite(mean_P).any():
            # One block shows no spread: its mean is 0 or 1. The mean over problems bounds what they
            # vary within a problem, as it holds what problems differ by, too.
            whole = float(np.nanmean(mean_P))
            variance_P = np.where(is_single_P, np.fmax(variance_P, whole * (1 - whole)), variance_P)
        if num_groups > 1:
            each = wide // num_groups
            groups = [baseline.columns(slice(g * each, (g + 1) * each)) for g in range(num_groups)]
            known_GP = np.array(
                [problem_means(block_scores(group, self.size, self.score)) for group in groups]
            )
            between_P = known_GP.var(axis=0, ddof=1) / num_groups
            variance_P = np.where(np.isfinite(known_GP).all(axis=0), between_P, variance_P)
        # The jackknife's has the degrees of freedom of two groups, at least.
        num_groups = max(num_groups, 2 if self.one_block else 1)
        return BaselineScores(mean_P, variance_P, num_P, num_groups)


def _too_few(baseline: Table, size: int, unit: str) -> str:
    """Why the baseline has not one block of `size`; empty when it has."""
    most = int(baseline.there_PK.sum(axis=1).max(initial=0))
    if most >= size:
        return ""
    if most == 0:
        return f"no {unit} at the baseline"
    plural = "s" if most > 1 else ""
    return f"at most {most} {unit}{plural} per problem at the baseline, and {size} are needed"


@dataclass(frozen=True)
class Guard:
    """A quantity measured on both sides.

    Attributes:
        quantity: what is measured.
        stream: what is bet on.
        baseline_mean: the baseline's mean score, the ceiling left out of account.
        note: what a reader of the numbers must know.
    """

    quantity: Quantity
    stream: Stream
    baseline_mean: float
    note: str = ""

    @property
    def id(self) -> StreamId:
        """The stream's identity."""
        return self.quantity.stream

    @property
    def loss(self) -> float:
        """How much the mean fell, in tolerances; negative when it rose."""
        before, after = float(self.stream.baseline_P.mean()), float(self._now_P().mean())
        tolerated = self.stream.tolerance * (before if self.stream.relative else 1.0)
        return (before - after) / tolerated if tolerated > 0 else before - after

    def change(self, level: float = 0.95) -> Estimate:
        """The difference now - baseline as shown, or now / baseline - 1 if relative.

        Paired by problem, two-sided interval of this level.
        """
        start, scale = self.quantity.shown
        # The start cancels in a difference, but not in a ratio.
        now_P, baseline_P = (start + scale * x for x in (self._now_P(), self.stream.baseline_P))
        if self.quantity.relative:
            value, low, high, num = ratio(now_P, baseline_P, level, bound=start + abs(scale))
            return Estimate(
                value - 1,
                max(low, 0.0) - 1,
                high - 1,
                num,
            )
        now, then = ({str(i): float(x) for i, x in enumerate(x_P)} for x_P in (now_P, baseline_P))
        most = abs(scale)
        return cut(paired(now, then, bound=most).interval(level), -most, most)

    def reading(
        self,
        level: float,
        estimand: Estimand | None = None,
        before: Mapping[str, float] | None = None,
        after: Mapping[str, float] | None = None,
    ) -> GuardReading:
        """Everything that a reader may want to see.

        Args:
            level: of the interval of the change.
            estimand: what the quantity is called in the tables of readings.
            before: the baseline's readings, estimand id -> value.
            after: this round's readings.
        """
        change, quantity = self.change(level), self.quantity
        # Both sides or none: a value from a table beside a block mean would be no change.
        id = "" if estimand is None else estimand.id
        then, now = (float((table or {}).get(id, np.nan)) for table in (before, after))
        if not (np.isfinite(then) and np.isfinite(now)):
            id = ""
            then = quantity.as_shown(self.baseline_mean)
            now = quantity.as_shown(float(self._now_P().mean()))
        return GuardReading(
            quantity=quantity.stream.quantity,
            baseline=quantity.stream.baseline,
            name=quantity.name,
            before=then,
            after=now,
            change=change.value,
            low=change.low,
            high=change.high,
            level=level,
            relative=quantity.relative,
            up_is_better=quantity.up_is_better,
            num_problems=change.num_clusters,
            tolerance=quantity.tolerance,
            loss_in_tolerances=self.loss,
            baseline_se=self.stream.baseline_se,
            estimand=id,
            note=self.note,
        )

    def _now_P(self) -> Floats:
        return problem_means(self.stream.block_PRM)


def direction(current: Scores, baseline: Scores) -> int:
    """+1 or -1 when the paired mean rose or fell, by its 95 % interval, else 0.

    For naming a mode; never an alarm.
    """
    difference = paired(current, baseline)
    if difference.num_clusters < 2:
        return 0
    low, high = difference.interval()[1:3]
    if low > 0:
        return 1
    return -1 if high < 0 else 0
