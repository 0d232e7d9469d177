"""Unbiased estimators from counts: pure functions of arrays.

Suffixes: `_P` problems, `_N` samples, `_S` strategies, `_M` cells (a problem and a strategy or
output), `_O` outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pass_at_k(
    correct_P: Floats,
    num_P: Floats,
    k: int,
) -> Floats:
    """P(at least one of k samples is right) per problem: 1 - C(n - c, k) / C(n, k).

    Range [0, 1]; NaN where n < k. Unbiased (the plug-in 1 - (1 - c/n)^k is biased down).
    Source: Chen et al. 2021 (2107.03374).
    """
    # As a product over the k draws: binomials of a large n would overflow.
    miss_P = np.ones(len(num_P))
    for j in range(k):
        wrong_left_P = np.clip(num_P - correct_P - j, 0, None)
        left_P = np.where(num_P > j, num_P - j, 1)
        miss_P = miss_P * wrong_left_P / left_P
    return np.where(num_P >= k, 1 - miss_P, np.nan)


def same_pairs(
    problem_N: Ints,
    category_N: Ints,
    num_problems: int,
) -> Floats:
    """Ordered pairs of two samples of one problem in the same category: sum_s n_s (n_s - 1).

    Category -1 counts as one.
    """
    if len(problem_N) == 0:
        return np.zeros(num_problems)
    # One key per (problem, category); + 1 and + 2 make room for category -1.
    width = int(category_N.max()) + 2
    keys, count = np.unique(problem_N * width + category_N + 1, return_counts=True)
    pairs = count * (count - 1.0)
    return np.bincount(keys // width, weights=pairs, minlength=num_problems).astype(float)


def distinct_pair_share(
    num_P: Floats,
    among_P: Floats,
    same_P: Floats,
) -> Floats:
    """[m (m - 1) - same] / [n (n - 1)] per problem; NaN for n < 2.

    The probability that two of n samples both lie in the chosen m and differ.

    m = n: the Gini-Simpson index, 1 - sum_s p_s^2. m = the correct ones: DCP, the
    distinct-correct-pair probability acc^2 - sum_s p_s^2 (p_s: correct and strategy s).
    U-statistics, exactly unbiased at any n >= 2; no conditioning on "2 correct". Source: Simpson
    1949; Hurlbert 1971.
    """
    has_pair_P = num_P >= 2
    # 1 where there is no pair: the quotient is not used there, and must not warn.
    pairs_P = np.where(has_pair_P, num_P * (num_P - 1), 1)
    different_P = among_P * (among_P - 1) - same_P
    return np.where(has_pair_P, different_P / pairs_P, np.nan)


def distinct_variance(
    code_PK: Ints,
    counts_PK: NDArray[np.bool_],
    num_P: Ints,
    size: int,
) -> Floats:
    """The variance of a problem's expected share of distinct codes among `size` of its samples.

    By the jackknife, whose expectation is no smaller than that of one sample less. Of distinct
    codes it is 1.5 to 2 times as large. NaN where a problem has fewer samples than `size`.
    Source: Efron & Stein 1981.

    Args:
        code_PK: a code of each sample.
        counts_PK: which samples are there and have a code that counts.
        num_P: samples of each problem, those without such a code among them.
        size: of what a share is taken of, at least 2.
    """
    problem_N, column_N = counts_PK.nonzero()
    # Shifted: a code may be -1.
    code_N = code_PK[problem_N, column_N] - code_PK.min(initial=0)
    width = int(code_N.max(initial=0)) + 1
    cell_M, times_M = np.unique(problem_N * width + code_N, return_counts=True)
    problem_M, count_M = cell_M // width, times_M.astype(float)
    left_M = num_P[problem_M] - 1.0

    def seen_M(count_M: Floats) -> Floats:
        # Of `size` samples that are all, one less is drawn from those that are left.
        more, less = (pass_at_k(np.minimum(count_M, left_M), left_M, k) for k in (size, size - 1))
        return np.where(left_M >= size, more, less)

    # What a code's sample takes with it; those without a code take nothing.
    lost_M = seen_M(count_M - 1) - seen_M(count_M)
    sums_P = [
        np.bincount(problem_M, weights=count_M * lost_M**power, minlength=len(num_P))
        for power in (1, 2)
    ]
    num = np.where(num_P >= size, num_P, np.nan).astype(float)
    return np.asarray((num - 1) / num * (sums_P[1] - sums_P[0] ** 2 / num) / size**2)


def grassberger_g(count: Floats) -> Floats:
    """G(n) = psi(n) + (-1)^n / 2 * [psi((n + 1) / 2) - psi(n / 2)], for n >= 1.

    0 for n = 0, where it is always multiplied by 0.
    """
    n = np.where(count > 0, count, 1.0)
    sign = np.where(n % 2 == 0, 1.0, -1.0)
    correction = 0.5 * sign * (digamma((n + 1) / 2) - digamma(n / 2))
    return np.where(count > 0, digamma(n) + correction, 0.0)


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
    mean_log = np.sum(count_S * grassberger_g(count_S)) / total
    # The correction may take a small entropy below 0, where no entropy lies.
    return max(0.0, float(np.log(total) - mean_log))


def entropy_without_each(
    problem_M: Ints,
    strategy_M: Ints,
    count_M: Floats,
) -> Floats:
    """`entropy` of the pooled counts with one problem left out, for each problem (jackknife).

    Shape (P,), P = problem_M.max() + 1. NaN where nothing is left. In O(M) for M cells: leaving a
    problem out changes only the terms of its own cells, so the sum is corrected, not taken anew.
    """
    count_S = np.bincount(strategy_M, weights=count_M).astype(float)
    num_P = np.bincount(problem_M, weights=count_M)
    with_M = count_S[strategy_M]
    without_M = with_M - count_M
    change_M = with_M * grassberger_g(with_M) - without_M * grassberger_g(without_M)
    whole = np.sum(count_S * grassberger_g(count_S))
    sum_P = whole - np.bincount(problem_M, weights=change_M)
    left_P = count_S.sum() - num_P
    safe_P = np.where(left_P > 0, left_P, 1.0)
    entropy_P = np.clip(np.log(safe_P) - sum_P / safe_P, 0, None)
    return np.where(left_P > 0, entropy_P, np.nan)


def collision(
    problem_M: Ints,
    output_M: Ints,
    share_M: Floats,
    num_problems: int,
) -> Floats:
    """Per problem: probability that a sample's output equals that of a sample of another problem.

    The mean over problems is the U-statistic over pairs of different problems, unbiased (the share
    of the most frequent output is biased up). NaN for P < 2.

    Args:
        problem_M: the cell's problem.
        output_M: the cell's output.
        share_M: the problem's share of samples with that output.
        num_problems: P, those without any output included.

    Source: Hoeffding 1948 (U-statistics).
    """
    if num_problems < 2:
        return np.full(num_problems, np.nan)
    if not len(output_M):
        return np.zeros(num_problems)
    total_O = np.bincount(output_M, weights=share_M)
    # What the other problems have of the same output.
    other_M = share_M * (total_O[output_M] - share_M)
    return np.bincount(problem_M, weights=other_M, minlength=num_problems) / (num_problems - 1)
