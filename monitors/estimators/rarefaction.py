"""How many kinds there are beyond those seen: pure functions of counts.

Suffixes: `_S` kinds, each count >= 0; `_M` different counts. Knows nothing of monitors.

Raw distinct counts grow with the sample, so two samples are compared at equal *coverage* (share of
the population's mass that belongs to kinds in the sample), not at equal size. f1, f2: kinds seen
once, twice; n: sum of counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

Floats = NDArray[np.float64]
NAN = float("nan")


class Counted(NamedTuple):
    """Counts in brief.

    Attributes:
        n: samples.
        seen: kinds with a sample.
        f1: kinds seen once.
        f2: kinds seen twice.
        size_M: the different counts.
        times_M: how many kinds have each of these counts.
    """

    n: float
    seen: float
    f1: float
    f2: float
    size_M: Floats
    times_M: Floats


def counted(count_S: Floats) -> Counted:
    """Sum up counts; zeros are left out.

    The estimators below then cost O(different counts) <= O(sqrt(n)).
    """
    size_M, times_M = np.unique(count_S[count_S > 0], return_counts=True)
    once, twice = (float(times_M[size_M == i].sum()) for i in (1, 2))
    return Counted(
        float(count_S.sum()),
        float(times_M.sum()),
        once,
        twice,
        size_M.astype(float),
        times_M.astype(float),
    )


def unseen(c: Counted) -> float:
    """f0, the least number of kinds not seen: (n - 1)/n f1^2 / (2 f2).

    Where f2 = 0 the last factor is f1 (f1 - 1) / 2 instead. Source: Chao 1984, 1987.
    """
    if c.n <= 0:
        return NAN
    if c.f2 > 0:
        squares = c.f1**2 / (2 * c.f2)
    else:
        squares = c.f1 * (c.f1 - 1) / 2
    return (c.n - 1) / c.n * squares


def chao1(c: Counted) -> float:
    """Lower bound on the number of kinds, seen + f0, [seen, inf). NaN without counts.

    A bound for the expectation in large samples, and noisy: 64 samples of a Zipf-50 read 48.8 with
    sd 23 (median 42.8).
    """
    return c.seen + unseen(c)


def _missed(c: Counted) -> float:
    """A = (n - 1) f1 / ((n - 1) f1 + 2 f2); where f2 = 0 that of f1 - 1 and f2 = 1.

    0 without kinds seen once.
    """
    if c.f1 == 0:
        return 0.0
    if c.f2 > 0:
        top, bottom = (c.n - 1) * c.f1, 2 * c.f2
    else:
        top, bottom = (c.n - 1) * (c.f1 - 1), 2.0
    return top / (top + bottom)


def coverage(c: Counted, size: float | None = None) -> float:
    """Expected sample coverage of a sample of `size` (default n), [0, 1].

    At n: 1 - f1/n A. Below it, by rarefaction: 1 - sum_s X_s/n C(n - X_s, m) / C(n - 1, m),
    unbiased for whole m. Above it, by extrapolation: 1 - f1/n A^(m - n + 1). At n = 64 within 0.01
    of the truth on a Zipf-50 (Good's 1 - f1/n: 0.015 below at n = 16). NaN without counts. Source:
    Chao & Jost 2012 (Ecology 93), equations 4a, 4b and 12.
    """
    if c.n <= 0:
        return NAN
    m = c.n if size is None else size
    if m >= c.n:
        return float(1 - c.f1 / c.n * _missed(c) ** (m - c.n + 1))
    return 1.0 - float(np.sum(c.times_M * c.size_M / c.n * _never(c, m, c.n - 1)))


def richness(c: Counted, size: float) -> float:
    """Expected number of kinds in a sample of `size`; reliable up to 2 n. NaN without counts.

    Below n (rarefaction): sum_s 1 - C(n - X_s, m) / C(n, m), unbiased. Above: seen + f0 [1 - (1 -
    f1 / (n f0 + f1))^(m - n)]. Source: Hurlbert 1971; Colwell et al. 2012 (J. Plant Ecology 5),
    equations 4 and 9.
    """
    if c.n <= 0:
        return NAN
    if size < c.n:
        return float(np.sum(c.times_M * (1 - _never(c, size, c.n))))
    f0 = unseen(c)
    if f0 <= 0:
        return c.seen
    missed_each = 1 - c.f1 / (c.n * f0 + c.f1)
    return c.seen + float(f0 * (1 - missed_each ** (size - c.n)))


def size_at(c: Counted, target: float) -> float:
    """The sample size, whole or not, whose expected coverage is `target`.

    At least 1, at most 2 n. NaN without counts.
    """
    if c.n <= 0:
        return NAN
    # Twice the sample is as far as the extrapolation is reliable (Chao et al. 2014).
    low, high = 1.0, 2 * c.n
    if coverage(c, low) >= target:
        return low
    if abs(coverage(c) - target) < 1e-12:
        return c.n
    if coverage(c, high) <= target:
        # Nothing seen once: coverage is 1 from n on, and more samples change nothing.
        return c.n if c.f1 == 0 else high
    return float(
        brentq(
            lambda m: coverage(c, m) - target,
            low,
            high,
            xtol=1e-6,
        )
    )


class Compared(NamedTuple):
    """Kinds of two samples at the same coverage, and the sizes at which they reach it."""

    coverage: float
    now: float
    then: float
    size_now: float
    size_then: float


def at_equal_coverage(
    now: Counted,
    then: Counted,
    reach: float = 2.0,
) -> Compared:
    """Both samples at the largest coverage that both can reach.

    That is the lesser coverage of the two, each extrapolated to `reach` times its size.

    Args:
        now: one sample.
        then: the other.
        reach: 2 is the base of Chao et al. 2014; 1 is rarefaction only, which is less noisy (ratio
            of two samples of 130 from a Zipf-50: sd 0.19 instead of 0.23).

    Source: Chao & Jost 2012; Chao et al. 2014 (Ecological Monographs 84).
    """
    # At equal size the sample of the richer population would be the less complete one.
    target = min(coverage(now, reach * now.n), coverage(then, reach * then.n))
    sizes = size_at(now, target), size_at(then, target)
    return Compared(target, richness(now, sizes[0]), richness(then, sizes[1]), *sizes)


def _never(c: Counted, m: float, total: float) -> Floats:
    """C(n - X, m) / C(total, m) for each different count X, (M,); 0 where n - X < m."""
    left_M = c.n - c.size_M
    fits_M = left_M >= m
    # By gamma functions, so that m need not be whole, and as logarithms: the binomials overflow.
    safe_M = np.where(fits_M, left_M, m)
    log_top_M = gammaln(safe_M + 1) - gammaln(safe_M - m + 1)
    log_bottom = gammaln(total + 1) - gammaln(total - m + 1)
    log_M = log_top_M - log_bottom
    return np.asarray(np.where(fits_M, np.exp(log_M), 0.0), dtype=float)
