"""Intervals and tests over clusters: pure functions of arrays, one entry per cluster.

The one interval module of the project; it knows nothing of monitors.

Suffixes: `_P` problems (clusters). Samples of one problem are never treated as independent of each
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtrit

Floats = NDArray[np.float64]
NAN = float("nan")

# Less spread than this is what rounding leaves of equal scores.
ROUNDING = 1e-12
# Twenty groups: 19 degrees of freedom widen the interval by 7 %, and more only cost time.
MOST_GROUPS = 20


class Estimate(NamedTuple):
    """A value, its two-sided interval (95 % unless asked otherwise), the clusters behind it.

    A part that is undefined is NaN.
    """

    value: float
    low: float
    high: float
    num_clusters: int


UNDEFINED = Estimate(NAN, NAN, NAN, 0)


def effective_df(residual_P: Floats) -> float:
    """Degrees of freedom of a variance estimated from these residuals, in [1, P - 1].

    2 sigma^4 / Var(s^2), with Var(s^2) from the residuals' own kurtosis: P - 1 for normal ones,
    about 2 when a single problem carries all the variance. So a handful of changed problems never
    gives a narrow interval. Source: Satterthwaite 1946; Var(s^2) = (mu_4 - sigma^4 (P - 3) / (P -
    1)) / P.
    """
    square = float(np.sum(residual_P**2))
    fourth = 0.0
    if square > 0:
        # Scaled before the fourth power, or large residuals would overflow.
        fourth = float(np.sum((residual_P / np.sqrt(square)) ** 4))
    return df_of_moments(len(residual_P), fourth)


def df_of_moments(num: int, fourth: float) -> float:
    """`effective_df` from the number of residuals and sum(r^4) / sum(r^2)^2."""
    if num < 2 or fourth <= 0:
        return max(1.0, num - 1.0)
    excess = num * fourth - (num - 3) / (num - 1)
    # Tails lighter than the normal law's would give more than P - 1; no more is claimed.
    if excess <= 0:
        return num - 1.0
    return float(np.clip(2 * num / excess, 1, num - 1))


def clopper_pearson(hits: float, num: float, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval; `hits` and `num` may be fractional (effective counts).

    Source: Clopper & Pearson 1934.
    """
    tail = (1 - level) / 2
    low, high = 0.0, 1.0
    # The beta quantiles are not defined at the ends, where the limits are 0 and 1.
    if hits > 0:
        low = float(betaincinv(hits, num - hits + 1, tail))
    if hits < num:
        high = float(betaincinv(hits + 1, num - hits, 1 - tail))
    return low, high


def binomial(hits: int, num: int, level: float = 0.95) -> Estimate:
    """Share of independent units with its exact interval; undefined for num = 0. Range [0, 1]."""
    if not num:
        return UNDEFINED
    low, high = clopper_pearson(hits, num, level)
    return Estimate(hits / num, low, high, num)


def mean(score_P: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of one score per cluster with a t interval (df: `effective_df`).

    For unbounded scores (nats, tokens). NaN scores are left out. One cluster: value without an
    interval. All scores equal: an interval of width 0.
    """
    x_P = _finite(score_P)
    if len(x_P) == 0:
        return UNDEFINED
    value = float(x_P.mean())
    if len(x_P) == 1:
        return Estimate(value, NAN, NAN, 1)
    se = float(x_P.std(ddof=1) / np.sqrt(len(x_P)))
    half = float(stdtrit(effective_df(x_P - value), (1 + level) / 2)) * se
    return Estimate(value, value - half, value + half, len(x_P))


def share(
    hits_P: ArrayLike,
    total_P: ArrayLike,
    num_samples: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """sum(hits) / sum(totals) with 0 <= hits <= totals, clustered.

    Range [0, 1]; undefined when the totals are 0. Exact binomial interval at the effective sample
    size n* = v (1 - v) / se^2 * (z / t_df)^2, where se is the clustered (linearised) standard
    error. n* lies between the number of clusters P (each cluster one coin: the most that scores in
    [0, 1] can vary) and `num_samples` (default: the sum of totals). At 0 and 1 that bound is n* =
    P: P(all P scores are 0) <= (1 - mean)^P for any score in [0, 1], so 1 - 0.025^(1/P) is an
    honest upper limit however the samples of a problem depend on each other. Source: Korn &
    Graubard 1998 (Survey Methodology 24); the lower limit n* >= P and `effective_df` are ours.
    """
    hits, total = np.asarray(hits_P, dtype=float), np.asarray(total_P, dtype=float)
    used = np.isfinite(hits) & np.isfinite(total) & (total > 0)
    hits, total = hits[used], total[used]
    num, weight = len(total), float(total.sum())
    if num == 0:
        return UNDEFINED
    value = min(1.0, max(0.0, float(hits.sum()) / weight))
    effective = float(num)
    residual_P = hits - value * total
    variance = num / max(num - 1, 1) * float(np.sum(residual_P**2)) / weight**2
    # Equal scores have no spread between clusters: then n* stays at the number of clusters.
    if variance > ROUNDING * value * (1 - value) and num > 1:
        tail = (1 + level) / 2
        # At level 1 both quantiles are infinite, and the interval is [0, 1] whatever n* is.
        shrink = float(ndtri(tail) / stdtrit(effective_df(residual_P), tail)) if tail < 1 else 1.0
        most = max(float(num), weight if num_samples is None else num_samples)
        effective = float(np.clip(value * (1 - value) / variance * shrink**2, num, most))
    return Estimate(value, *clopper_pearson(value * effective, effective, level), num)


def mean_in_unit(score_P: ArrayLike, num_samples: float | None = None) -> Estimate:
    """Mean of one score in [0, 1] per cluster (a problem's pass@1, DCP, ...).

    The interval is that of `share`.

    Args:
        score_P: a score per cluster; NaN ones are left out.
        num_samples: samples behind all scores, the most that the mean can be worth; None: no such
            limit.
    """
    x_P = _finite(score_P)
    most = np.inf if num_samples is None else num_samples
    return share(x_P, np.ones(len(x_P)), most)


def ratio(
    top_P: ArrayLike, bottom_P: ArrayLike, level: float = 0.95, bound: float = NAN
) -> Estimate:
    """mean(top) / mean(bottom) over the same clusters; t interval by the delta method.

    Linearised residuals: top - ratio * bottom. Bias of order 1 / P. Undefined when mean(bottom) <=
    0. One cluster: no interval. Source: Cochran 1977, section 6.4; same as cluster-robust (CR1)
    errors of an intercept when both are per-cluster sums.

    bound: the largest value of either; with it, exact limits where all clusters have one ratio.
    """
    top, bottom = np.asarray(top_P, dtype=float), np.asarray(bottom_P, dtype=float)
    used = np.isfinite(top) & np.isfinite(bottom)
    top, bottom = top[used], bottom[used]
    num = len(top)
    if num == 0 or bottom.sum() <= 0:
        return UNDEFINED
    value = float(top.sum() / bottom.sum())
    if num == 1:
        return Estimate(value, NAN, NAN, 1)
    residual_P = top - value * bottom
    se = float(np.sqrt(num / (num - 1) * np.sum(residual_P**2)) / bottom.sum())
    if bound == bound and float(np.abs(residual_P).max()) < ROUNDING:
        # As in `Paired.interval`: clusters that were not drawn may have another ratio.
        most = _unseen(num, level) * bound / float(bottom.mean())
        return Estimate(value, value - value * most, value + most, num)
    half = float(stdtrit(effective_df(residual_P), (1 + level) / 2)) * se
    return Estimate(value, value - half, value + half, num)


def _unseen(num: int, level: float) -> float:
    """The largest share of all that would leave none among `num` with the chance of `level`."""
    return 1 - float(((1 - level) / 2) ** (1 / num))


@dataclass(frozen=True)
class Paired:
    """Mean of `current - scale * reference` over the problems that both have.

    Attributes:
        value: the mean difference.
        se: its standard error; 0 when all differences are equal.
        df: degrees of freedom of `se`.
        num_clusters: problems that both have.
        bound: the largest possible size of a difference.
    """

    value: float
    se: float
    df: float
    num_clusters: int
    bound: float

    def interval(self, level: float = 0.95) -> Estimate:
        """Two-sided t interval; exact limits when all differences are equal."""
        if self.num_clusters == 0:
            return UNDEFINED
        if self.se > 0:
            half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
            return Estimate(self.value, self.value - half, self.value + half, self.num_clusters)
        # No spread was seen, but problems that were not drawn may differ.
        unseen = _unseen(self.num_clusters, level)
        low = self.value - (self.value + self.bound) * unseen
        high = self.value + (self.bound - self.value) * unseen
        return Estimate(self.value, low, high, self.num_clusters)


def paired(
    current: Mapping[str, float],
    reference: Mapping[str, float],
    scale: float = 1.0,
    bound: float = 1.0,
) -> Paired:
    """Compare two scores problem by problem, over the shared problems with both scores defined.

    Args:
        current: problem -> score.
        reference: problem -> score; frozen.
        scale: the difference is `current - scale * reference`; 0.9 asks for "90 % of the
            reference" without a ratio.
        bound: the largest possible size of a difference (1 for scores in [0, 1], 2 for scores in
            [-1, 1]).

    Source: Miller 2024 (2411.00640), paired and clustered differences.
    """
    shared = sorted(p for p in current if p in reference)
    difference_P = _finite([current[p] - scale * reference[p] for p in shared])
    num = len(difference_P)
    if num == 0:
        return Paired(NAN, NAN, NAN, 0, bound)
    value = float(difference_P.mean())
    spread = float(difference_P.std(ddof=1)) if num > 1 else 0.0
    # What rounding leaves of equal differences is no spread: the exact bound applies.
    if spread < ROUNDING:
        spread = 0.0
    return Paired(
        value,
        spread / float(np.sqrt(num)),
        effective_df(difference_P - value),
        num,
        bound,
    )


def balanced_accuracy(positive: Estimate, negative: Estimate) -> Estimate:
    """(sensitivity + specificity) / 2 with the MOVER interval of the two shares' own intervals.

    Range [0, 1], chance 0.5. Undefined without both classes. Takes the two as independent (they
    come from different drafts). Source: Zou & Donner 2008 (Statistics in Medicine 27), after
    Newcombe 1998.
    """
    if not (positive.num_clusters and negative.num_clusters):
        return UNDEFINED
    value = (positive.value + negative.value) / 2
    below = np.hypot(positive.value - positive.low, negative.value - negative.low)
    above = np.hypot(positive.high - positive.value, negative.high - negative.value)
    num = min(positive.num_clusters, negative.num_clusters)
    return Estimate(value, value - float(below) / 2, value + float(above) / 2, num)


def jackknife(value: float, without_G: ArrayLike, num_clusters: int) -> Estimate:
    """A statistic with its 95 % t interval from leaving out one group of clusters at a time.

    G - 1 df. Groups: `jackknife_groups`. se^2 = (G - 1)/G sum_g (without_g - mean)^2: for smooth
    statistics of pooled counts, however the units of a cluster depend on each other. No interval
    below two groups or when a group's value is undefined. Source: Shao & Wu 1989 (Annals of
    Statistics 17), delete-a-group jackknife.
    """
    without = np.asarray(without_G, dtype=float)
    num = len(without)
    if not np.isfinite(value):
        return UNDEFINED
    if num < 2 or not np.isfinite(without).all():
        return Estimate(value, NAN, NAN, num_clusters)
    square = np.sum((without - without.mean()) ** 2)
    se = float(np.sqrt((num - 1) / num * square))
    half = float(stdtrit(num - 1, 0.975)) * se
    return Estimate(value, value - half, value + half, num_clusters)


def jackknife_groups(num_clusters: int) -> NDArray[np.int64]:
    """A group for each cluster, (P,): at most `MOST_GROUPS` groups, equally large.

    Neighbours (as sorted by name) lie in different groups.
    """
    num_groups = min(MOST_GROUPS, max(num_clusters, 1))
    return np.asarray(np.arange(num_clusters) % num_groups, dtype=np.int64)


def difference(left: Estimate, right: Estimate) -> Estimate:
    """Difference, left less right, of two independent estimates.

    MOVER interval from their own intervals. Source: Zou & Donner 2008.
    """
    if not (left.num_clusters and right.num_clusters):
        return UNDEFINED
    value = left.value - right.value
    # The difference is low where the left one is low and the right one is high.
    below = float(np.hypot(left.value - left.low, right.high - right.value))
    above = float(np.hypot(left.high - left.value, right.value - right.low))
    num = min(left.num_clusters, right.num_clusters)
    return Estimate(value, value - below, value + above, num)


def cut(estimate: Estimate, least: float = -np.inf, most: float = np.inf) -> Estimate:
    """The estimate with its interval (never its value) cut to a range."""
    value, low, high, num = estimate
    if not np.isfinite(low + high):
        return estimate
    # Never past the value itself: an unbiased estimate may lie outside its own range.
    return Estimate(value, min(max(low, least), value), max(min(high, most), value), num)


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    return np.asarray(array[np.isfinite(array)], dtype=float)
