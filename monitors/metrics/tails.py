"""Tail narrowing (M16): whether the kept data leave the hard problems out.

It is known before anything is trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Pool, Reading, RoundView
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import NUM_SPLITS, Ints, split_halves
from ouroloop.monitors.estimators.stats import (
    UNDEFINED,
    Estimate,
    cut,
    jackknife,
    jackknife_groups,
    ratio,
)
from ouroloop.monitors.metrics.readings import Kind, missing, number, reading
from ouroloop.monitors.metrics.selection import ratios_of

KINDS: Mapping[Estimand, Kind] = {
    Estimand("tail/hard_share", samples="pool"): ("ratio", "up"),
    Estimand("tail/gini", samples="pool"): ("", "down"),
    Estimand("tail/slice_ratio", samples="pool"): ("ratio", "up"),
}
NAMES = tuple(KINDS)
# Simulated filters; their seed is fixed.
NUM_DRAWS = 20


@dataclass(frozen=True)
class Tails:
    """How evenly the kept samples feed the problems.

    * tail/hard_share: share of the kept samples that belong to the hardest `quartile` of the
      problems, over `quartile`; [0, 1 / quartile], up, 1 when difficulty does not matter. A
      problem's difficulty (share right; share kept where nothing was scored) comes from one half of
      its samples, what was kept from the other, averaged over random splits: with the same samples
      in both, an unlucky problem would look hard and starved at once (a filter of right answers on
      equally hard problems, 4 samples each, would read 0.38 instead of 1). Delta-method interval.
      200 problems x 8: a quarter with 35 % right beside 50-70 % is seen (limit below 1) in 73 % of
      draws, with 25 % in all.
    * tail/gini: Gini coefficient of the kept samples per problem, [0, 1], down; n/(n - 1)
      corrected. Chance alone gives the value in details `at_random` (each sample kept with the
      overall probability): compare with that, not with 0. Jackknife interval over problems (held
      the truth in 94 to 95 % of 500 draws of 20, 60 and 200 problems).
    * tail/slice_ratio: share of slice `tail_slice` among kept over raw samples, [0, inf), up;
      interval as for selection ratios.

    Undefined without a pool or when nothing was kept; the first also without two samples of a
    problem, the last without known slices. Source: Ding et al. 2411.00750 (easy problems are
    over-sampled, more each round); Gini 1912; split after selection: Cox 1975.
    """

    name: str = "tail"
    quartile: float = 0.25
    tail_slice: str = "tail"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.pool`."""
        pool = view.pool
        if pool is None:
            return missing(KINDS, "no training pool")
        if not pool.kept.any():
            return missing(KINDS, "the filter kept nothing of the training pool")
        kept_P, raw_P = counts(pool)
        details = {"at_random": number(gini_at_random(raw_P, float(kept_P.sum() / raw_P.sum())))}
        why = (
            "no kept sample left in the other half of a problem's samples, or no sample of slice"
            f" {self.tail_slice}"
        )
        return [
            reading(
                NAMES[0],
                hard_share(pool, self.quartile),
                "ratio",
                "up",
                "two samples of a problem are needed, and some kept",
            ),
            reading(
                NAMES[1],
                gini_estimate(kept_P),
                "",
                "down",
                "two problems are needed",
                details,
            ),
            reading(
                NAMES[2],
                self._slice_ratio(pool),
                "ratio",
                "up",
                "slices of the pool are not known" if pool.slice is None else why,
            ),
        ]

    def _slice_ratio(self, pool: Pool) -> Estimate:
        if pool.slice is None:
            return UNDEFINED
        ratios = ratios_of(
            pool.slice,
            pool.problem,
            pool.kept,
            pool.correct,
            min_raw=1,
        )
        found = {r.cluster: r for r in ratios}
        if self.tail_slice not in found:
            return UNDEFINED
        r = found[self.tail_slice]
        return Estimate(
            r.ratio,
            r.low,
            r.high,
            len(set(pool.problem)),
        )


def counts(pool: Pool) -> tuple[Floats, Floats]:
    """Kept and raw samples of each problem, in the order of their names."""
    problem_N = codes(pool.problem)[1]
    kept_P = np.bincount(problem_N, weights=pool.kept)
    raw_P = np.bincount(problem_N)
    return kept_P.astype(float), raw_P.astype(float)


def hard_share(pool: Pool, quartile: float = 0.25) -> Estimate:
    """Kept share of the hardest `quartile` of the problems over `quartile`; see `Tails`.

    Equally hard ones at the edge count in part.
    """
    # Difficulty by the truth where anything was scored, else by what the filter kept.
    signal = pool.correct
    if not np.isfinite(signal).any():
        signal = pool.kept.astype(float)
    used = np.isfinite(signal)
    problem_N = codes(pool.problem[used])[1]
    if not len(problem_N):
        return UNDEFINED
    # One sample cannot be split into two halves.
    large = (np.bincount(problem_N) >= 2)[problem_N]
    problem_N = codes(pool.problem[used][large])[1]
    signal, kept = signal[used][large], pool.kept[used][large].astype(float)
    num = int(problem_N.max(initial=-1)) + 1
    if not num:
        return UNDEFINED
    top_P, all_P = np.zeros(num), np.zeros(num)
    for first, second in split_halves(
        (signal.astype(np.int64), kept.astype(np.int64)),
        problem_N,
        NUM_SPLITS,
    ):
        # Difficulty from one half, what was kept from the other.
        right_P = _mean(problem_N[first], signal[first], num)
        kept_P = np.bincount(problem_N[second], weights=kept[second], minlength=num)
        top_P += lowest(right_P, quartile) * kept_P
        all_P += kept_P
    return cut(ratio(top_P / quartile, all_P), 0.0, 1 / quartile)


def lowest(value_P: Floats, share: float) -> Floats:
    """Membership, in [0, 1], in the lowest `share` of the values.

    Ties at the edge share what is left, so that the sum is share * P.
    """
    # Equal values form one level, and a level at the edge is in the tail in part.
    level_P = np.unique(value_P, return_inverse=True)[1]
    size = np.bincount(level_P)
    below = np.cumsum(size) - size
    return np.asarray(np.clip((share * len(value_P) - below) / size, 0, 1)[level_P], dtype=float)


def gini(count_P: Floats) -> float:
    """Mean absolute difference of two different problems' counts over twice the mean, [0, 1].

    NaN below two problems or without counts.
    """
    num, total = len(count_P), float(count_P.sum())
    if num < 2 or total <= 0:
        return float("nan")
    # Sorted, the sum over all pairs is a weighted sum over the ranks: O(P log P), not O(P^2).
    rank = np.arange(1, num + 1)
    weighted = np.sum((2 * rank - num - 1) * np.sort(count_P))
    return float(weighted / ((num - 1) * total))


def gini_estimate(count_P: Floats) -> Estimate:
    """`gini` with its jackknife interval over problems."""
    group_P = jackknife_groups(len(count_P))
    without = [gini(count_P[group_P != g]) for g in range(int(group_P.max()) + 1)]
    return cut(jackknife(gini(count_P), without, len(count_P)), 0.0, 1.0)


def gini_at_random(raw_P: Floats, kept: float) -> float:
    """Mean Gini coefficient when every raw sample is kept with probability `kept`, simulated.

    Args:
        raw_P: samples of each problem.
        kept: chance of each to be kept.
    """
    rng = np.random.default_rng(0)
    # Sorted, so that the order of the problems does not change the draws.
    sizes = np.sort(raw_P).astype(np.int64)
    drawn = [gini(rng.binomial(sizes, kept).astype(float)) for _ in range(NUM_DRAWS)]
    return float(np.mean(drawn))


def _mean(
    problem_N: Ints,
    value_N: Floats,
    num: int,
) -> Floats:
    total_P = np.bincount(problem_N, weights=value_N, minlength=num)
    return np.asarray(total_P / np.bincount(problem_N, minlength=num), dtype=float)
