"""Unbiased estimators from counts: pure functions of arrays.

`_P` problems, `_N` samples, `_S` strategies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pass_at_k(correct_P: Floats, num_P: Floats, k: int) -> Floats:
    """P(at least one of k samples is right) per problem: 1 - C(n - c, k) / C(n, k).

    Range [0, 1]; NaN where n < k.

    Unbiased (the plug-in 1 - (1 - c/n)^k is biased down). As a product, to stay exact for large n.
    Source: Chen et al. 2021 (2107.03374).
    """
    miss_P = np.ones(len(num_P))
    for j in range(k):
        miss_P = (
            miss_P * np.clip(num_P - correct_P - j, 0, None) / np.where(num_P > j, num_P - j, 1)
        )
    return np.where(num_P >= k, 1 - miss_P, np.nan)


def same_pairs(problem_N: Ints, category_N: Ints, num_problems: int) -> Floats:
    """Ordered pairs of two samples of one problem in the same category: sum_s n_s (n_s - 1).

    Category -1 counts as one.
    """
    if len(problem_N) == 0:
        return np.zeros(num_problems)
    width = int(category_N.max()) + 2
    keys, count = np.unique(problem_N * width + category_N + 1, return_counts=True)
    return np.bincount(keys // width, weights=count * (count - 1.0), minlength=num_problems).astype(
        float
    )


def distinct_pair_share(num_P: Floats, among_P: Floats, same_P: Floats) -> Floats:
    """[m (m - 1) - same] / [n (n - 1)] per problem.

    Two of n samples both lie in the chosen m and differ. NaN for n < 2.

    m = n: the Gini-Simpson index, 1 - sum_s p_s^2. m = the correct ones: DCP, the
    distinct-correct-pair probability acc^2 - sum_s p_s^2 (p_s: correct and strategy s).
    U-statistics, exactly unbiased at any n >= 2; no conditioning on "2 correct". Source: Simpson
    1949; Hurlbert 1971.
    """
    pairs_P = num_P * (num_P - 1)
    return np.where(
        num_P >= 2,
        (among_P * (among_P - 1) - same_P) / np.where(num_P >= 2, pairs_P, 1),
        np.nan,
    )


def grassberger_g(count: Floats) -> Floats:
    """G(n) = psi(n) + (-1)^n / 2 * [psi((n + 1) / 2) - psi(n / 2)], for n >= 1.

    0 for n = 0 (always multiplied by 0).
    """
    n = np.where(count > 0, count, 1.0)
    g = digamma(n) + 0.5 * np.where(n % 2 == 0, 1.0, -1.0) * (digamma((n + 1) / 2) - digamma(n / 2))
    return np.where(count > 0, g, 0.0)


def entropy(count_S: Floats) -> float:
    """Shannon entropy in nats, from counts: ln n - (1/n) sum_s n_s G(n_s). NaN without counts.

    Bias: within 0.01 nats for a few strategies and n >= 60; still low when most strategies are
    unseen (16 samples of a Zipf-50: 2.87 of 3.20; plug-in 2.20, Miller-Madow 2.50). Assumes
    independent samples: with clusters the correction is a little too small. Source: Grassberger
    2003 (physics/0307138), with his G_n.
    """
    total = float(count_S.sum())
    if total <= 0:
        return float("nan")
    return max(0.0, float(np.log(total) - np.sum(count_S * grassberger_g(count_S)) / total))


def entropy_without_each(problem_M: Ints, strategy_M: Ints, count_M: Floats) -> Floats:
    """`entropy` of the pooled counts with one problem left out, for each problem (jackknife).

    In O(M) for M cells.

    Shape (P,), P = problem_M.max() + 1. NaN where nothing is left.
    """
    count_S = np.bincount(strategy_M, weights=count_M).astype(float)
    num_P = np.bincount(problem_M, weights=count_M)
    with_M = count_S[strategy_M]
    change_M = with_M * grassberger_g(with_M) - (with_M - count_M) * grassberger_g(with_M - count_M)
    left_P = count_S.sum() - num_P
    sum_P = np.sum(count_S * grassberger_g(count_S)) - np.bincount(problem_M, weights=change_M)
    safe_P = np.where(left_P > 0, left_P, 1.0)
    return np.where(left_P > 0, np.clip(np.log(safe_P) - sum_P / safe_P, 0, None), np.nan)


def collision(problem_M: Ints, output_M: Ints, share_M: Floats, num_problems: int) -> Floats:
    """Per problem: probability that a sample's output equals that of a sample of another problem.

    NaN for P < 2.

    share_M: the problem's share of samples with that output. The mean over problems is the
    U-statistic over pairs of different problems, unbiased (the share of the most frequent output is
    biased up). Source: Hoeffding 1948 (U-statistics).
    """
    if num_problems < 2:
        return np.full(num_problems, np.nan)
    total_O = np.bincount(output_M, weights=share_M) if len(output_M) else np.zeros(0)
    other_M = share_M * (total_O[output_M] - share_M) if len(output_M) else np.zeros(0)
    return np.bincount(problem_M, weights=other_M, minlength=num_problems) / (num_problems - 1)
