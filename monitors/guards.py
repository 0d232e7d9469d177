"""The guarded quantities: what must not get worse than tolerated since round 0, each compared problem by problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitors.readings import number
from monitors.stats import Estimate, paired, ratio

Tier = Literal["ok", "watch", "halt"]


@dataclass(frozen=True)
class Guard:
    """One quantity of one round against round 0, over the shared problems.

    change: after - before, or after / before - 1 if `relative`, with its 95 % interval. worse: the change turned so that
    positive is bad. p_any: p-value of "it got no worse". p_beyond: p-value of "it got worse by the tolerance at most". Both
    one-sided.
    """

    name: str
    before: float
    after: float
    change: Estimate
    worse: float
    tolerance: float
    relative: bool
    p_any: float
    p_beyond: float
    note: str = ""

    def tier(self, level: float, watch_share: float) -> Tier:
        """How bad it is.

        "halt": beyond the tolerance at this level. "watch": worse at all at this level, and by more than `watch_share` of the
        tolerance.
        """
        if self.p_beyond < level and self.worse > self.tolerance:
            return "halt"
        return "watch" if self.p_any < level and self.worse > watch_share * self.tolerance else "ok"

    def sentence(self) -> str:
        """Name, both values, the change with its interval, and the tolerance."""
        direction = -1.0 if (self.change.value <= 0) == (self.worse >= 0) else 1.0
        change, low, high, limit = (
            f"{100 * x:+.0f}" if self.relative else f"{x:+.3f}"
            for x in (self.change.value, self.change.low, self.change.high, direction * self.tolerance)
        )
        unit = " %" if self.relative else ""
        moved = f"{change}{unit}, 95 % interval {low} to {high}{unit}"
        shown = f"{self.name} {self.before:.3f} -> {self.after:.3f} ({moved}), tolerance {limit}{unit}"
        return f"{shown} [{self.note}]" if self.note else shown

    def to_json(self, level: float, watch_share: float) -> dict[str, Any]:
        """Everything, with the tier at this level."""
        return {
            "name": self.name, "before": self.before, "after": self.after, "change": number(self.change.value),
            "low": number(self.change.low), "high": number(self.change.high), "relative": self.relative,
            "num_clusters": self.change.num_clusters, "tolerance": self.tolerance, "p_any": number(self.p_any),
            "p_beyond": number(self.p_beyond), "tier": self.tier(level, watch_share),
        }


@dataclass(frozen=True)
class Quantity:
    """One score per problem, now and at round 0, and how much worse it may get.

    tolerance: in the score's unit, or a share of round 0's mean if `relative`. bound: largest size of a difference.
    why_missing: what to say when round 0 could not measure it. note: what the reader must know of the comparison.
    """

    name: str
    current: Mapping[str, float]
    reference: Mapping[str, float]
    tolerance: float
    why_missing: str
    relative: bool = False
    up_is_good: bool = True
    bound: float = 1.0
    note: str = ""

    @property
    def measured(self) -> bool:
        """Whether round 0 measured it: on two problems at least, and a relative one with a mean above 0."""
        values = [v for v in self.reference.values() if np.isfinite(v)]
        return len(values) >= 2 and (not self.relative or sum(values) > 0)

    def guard(self) -> Guard | None:
        """Compare over the shared problems; None when these are fewer than two, or a relative quantity is 0 on them.

        A relative tolerance is tested on current - (1 - tolerance) * reference: no ratio of two noisy numbers is tested.
        """
        sign = 1.0 if self.up_is_good else -1.0
        now, then = ({p: sign * v for p, v in scores.items()} for scores in (self.current, self.reference))
        difference = paired(now, then, bound=self.bound)
        if difference.num_clusters < 2:
            return None
        shared = sorted(p for p in now if p in then and np.isfinite(now[p]) and np.isfinite(then[p]))
        now_P, then_P = (np.array([scores[p] for p in shared]) for scores in (self.current, self.reference))
        if self.relative:
            value, low, high, num = ratio(now_P, then_P)
            if not np.isfinite(value):
                return None
            change = Estimate(value - 1, max(low, 0.0) - 1, high - 1, num)
            beyond = paired(now, then, scale=1 - self.tolerance, bound=self.bound).p_below()
        else:
            change = paired(self.current, self.reference, bound=self.bound).interval()
            beyond = difference.p_below(-self.tolerance)
        means = float(then_P.mean()), float(now_P.mean())
        worse = -sign * change.value
        p_any = difference.p_below()
        return Guard(self.name, *means, change, worse, self.tolerance, self.relative, p_any, beyond, self.note)


def direction(current: Mapping[str, float], reference: Mapping[str, float], level: float = 0.05) -> int:
    """+1 or -1 when the paired mean rose or fell at this two-sided level, else 0. For naming a mode; never an alarm."""
    difference = paired(current, reference)
    if difference.num_clusters < 2:
        return 0
    low, high = difference.interval(1 - level)[1:3]
    return 1 if low > 0 else -1 if high < 0 else 0
