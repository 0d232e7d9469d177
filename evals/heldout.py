"""Held-out scores with intervals.

Pass@1, pass@k and maj@k (self-consistency), from ragged arrays of samples, one row each.

Every score is a mean over problems of a per-problem estimate in [0, 1]; its interval treats the
problem as the cluster. Samples whose `correct` is None or NaN are unscored and left out: unscored
is not wrong. Nothing is bootstrapped, so a score is reproducible to the bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Any, TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95

_T = TypeVar("_T")


@dataclass(frozen=True)
class Score:
    """A mean over `num_problems` problems with its 95 % interval.

    Without any problem: NaN, NaN, NaN, 0.
    """

    value: float
    low: float
    high: float
    num_problems: int


def pass_at_1(problem: Sequence[Hashable], correct: Sequence[Any]) -> Score:
    """The chance that one sample is right.

    The mean over problems of each problem's share of right samples.
    """
    return pass_at_k(problem, correct, 1)


def pass_at_k(problem: Sequence[Hashable], correct: Sequence[Any], k: int) -> Score:
    """The chance that at least one of k samples is right, 1 - C(n-c, k)/C(n, k) per problem.

    Unbiased for any n >= k.

    Problems with fewer than k scored samples are left out. Shapes: `problem` and `correct` have one
    entry per sample (N); `correct` holds True/False, 1/0, or None/NaN for unscored.

    Source: Chen et al. 2021 (2107.03374), equation 1. Never 1-(1-c/n)^k, which is biased.
    """
    _check_k(k)
    estimates, draws = [], 0
    for rows in _by_problem(problem, _rights(correct)).values():
        scored = [right for right in rows if right is not None]
        if len(scored) >= k:
            estimates.append(1 - comb(len(scored) - sum(scored), k) / comb(len(scored), k))
            draws += len(scored) // k
    return _score(estimates, draws)


def maj_at_k(
    problem: Sequence[Hashable], correct: Sequence[Any], answer: Sequence[str | None], k: int
) -> Score:
    """The chance that the most frequent answer of k samples is right (self-consistency).

    Exact over all k-subsets of a problem's n samples. A tie is broken uniformly at random among the
    tied answers. A sample without an answer (None) does not vote; when nobody votes, the problem is
    wrong. An answer is right when most of its scored samples are. Problems with fewer than k
    samples, or with no scored sample, are left out. Shapes as in `pass_at_k`; `answer` holds
    canonical answers.

    Source: Wang et al. 2203.11171, section 2 (unweighted vote); they draw k samples once, this is
    the expectation over the draw.
    """
    _check_k(k)
    estimates, draws = [], 0
    for rows in _by_problem(problem, list(zip(_rights(correct), answer, strict=True))).values():
        scored = [(right, said) for right, said in rows if right is not None]
        if len(rows) >= k and scored:
            votes = Counter(said for _, said in rows if said is not None)
            trust = {said: [right for right, other in scored if other == said] for said in votes}
            winners = [
                said for said in votes if trust[said] and 2 * sum(trust[said]) > len(trust[said])
            ]
            estimates.append(
                _vote(
                    tuple(sorted(votes[said] for said in winners)),
                    tuple(sorted(votes.values())),
                    len(rows),
                    k,
                )
            )
            draws += len(rows) // k
    return _score(estimates, draws)


def scores_by_family(
    problem: Sequence[Hashable],
    family: Sequence[str],
    correct: Sequence[Any],
    answer: Sequence[str | None],
    *,
    pass_k: int,
    majority_k: int,
    greedy: Sequence[bool] | None = None,
) -> dict[str, dict[str, Any]]:
    """The `families` of a round's evals.json: {family.

    {num_problems, pass@1, pass@k, maj@k, greedy}}.

    Each score is {value, low, high}; undefined is None.

    Args:
        problem: the problem of each row (N rows).
        family: its family.
        correct: True/False, 1/0, or None/NaN for unscored.
        answer: its canonical answer, or None.
        pass_k: k of pass@k.
        majority_k: k of maj@k.
        greedy: which rows were decoded greedily; they count for `greedy` alone. None: no row was.
    """
    decoded = [False] * len(problem) if greedy is None else [bool(flag) for flag in greedy]
    rows = list(zip(problem, family, correct, answer, decoded, strict=True))
    report: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(family):
        sampled = [
            (who, right, said) for who, kin, right, said, alone in rows if kin == name and not alone
        ]
        single = [(who, right) for who, kin, right, _, alone in rows if kin == name and alone]
        who_N, right_N, said_N = (
            [row[0] for row in sampled],
            [row[1] for row in sampled],
            [row[2] for row in sampled],
        )
        report[name] = {
            "num_problems": len({row[0] for row in rows if row[1] == name}),
            "pass@1": _plain(pass_at_1(who_N, right_N)),
            "pass@k": _plain(pass_at_k(who_N, right_N, pass_k)),
            "maj@k": _plain(maj_at_k(who_N, right_N, said_N, majority_k)),
            "greedy": _plain(pass_at_1([row[0] for row in single], [row[1] for row in single])),
        }
    return report


def interval(estimates: Sequence[float], num_draws: int) -> tuple[float, float]:
    """A 95 % interval for the mean of per-problem estimates in [0, 1].

    Wilson's, at an effective sample size.

    The effective size is p(1-p) over the squared standard error of the mean between problems, at
    most `num_draws` (as if no two samples of a problem were alike), times (z/t)^2 with N-1 degrees
    of freedom because that standard error is itself estimated. Where all estimates are 0 or all are
    1 there is no variance to read and each problem counts once: 0 of 20 gives [0, 0.18], not [0,
    0]. One problem alone gives [0, 1].

    Simulated coverage (3 to 120 problems, 1 or 8 samples, beta-binomial): 0.97 on average, lowest
    0.89 where a few problems hold nearly all of a 2 % success rate.

    Source: the effective size is Korn and Graubard's (Survey Methodology 24, 1998); Wilson's
    interval at it, Dean and Pagano (J. Survey Statistics and Methodology 3, 2015). They use
    Clopper-Pearson limits or raw proportions; here the estimates may also be fractions (pass@k,
    maj@k).
    """
    number = len(estimates)
    if number < 2:
        return (math.nan, math.nan) if number == 0 else (0.0, 1.0)
    mean = float(np.mean(estimates))
    variance = float(np.var(estimates, ddof=1)) / number
    if mean * (1 - mean) < 1e-12:
        size = float(number)
    else:
        size = (
            min(float(max(num_draws, number)), mean * (1 - mean) / variance)
            if variance > 0
            else float(max(num_draws, number))
        )
    z, t = float(ndtri((1 + CONFIDENCE) / 2)), float(stdtrit(number - 1, (1 + CONFIDENCE) / 2))
    size *= (z / t) ** 2
    centre = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(mean * (1 - mean) / size + z * z / (4 * size * size))
    return max(0.0, centre - half), min(1.0, centre + half)


def _score(estimates: Sequence[float], num_draws: int) -> Score:
    low, high = interval(estimates, num_draws)
    return Score(float(np.mean(estimates)) if estimates else math.nan, low, high, len(estimates))


def _plain(score: Score) -> Mapping[str, float | None]:
    return {
        name: None if math.isnan(value := getattr(score, name)) else value
        for name in ("value", "low", "high")
    }


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _rights(correct: Iterable[Any]) -> list[bool | None]:
    """True/False, 1/0 -> bool; None/NaN -> None."""
    return [None if right is None or right != right else bool(right) for right in correct]


def _by_problem(problem: Sequence[Hashable], values: Sequence[_T]) -> dict[Hashable, list[_T]]:
    """The rows of each problem, in order of first appearance."""
    groups: dict[Hashable, list[_T]] = {}
    for who, value in zip(problem, values, strict=True):
        groups.setdefault(who, []).append(value)
    return groups


@lru_cache(maxsize=8192)
def _vote(winners: tuple[int, ...], votes: tuple[int, ...], num_samples: int, k: int) -> float:
    """The chance that one of the right answers wins the vote of a random k-subset.

    Counts, for each right answer and each number j of votes for it, the subsets in which no other
    answer has more than j, weighted 1/(1+t) with t others tied at j. Exact integers until the last
    division.

    Args:
        winners: how often each right answer was given.
        votes: how often each answer, right or wrong, was given.
        num_samples: all samples; those that are in no vote abstained.
        k: size of the subset.
    """
    total = 0.0
    for own in winners:
        others = list(votes)
        others.remove(own)
        for j in range(1, min(own, k) + 1):
            free = num_samples - sum(votes) + sum(count for count in others if count < j)
            ways = {
                (0, 0): 1
            }  # (votes spent on rivals that could reach j, rivals tied at j) -> subsets
            for count in (count for count in others if count >= j):
                grown: Counter[tuple[int, int]] = Counter()
                for (spent, tied), number in ways.items():
                    for votes_for_it in range(min(j, k - j - spent) + 1):
                        grown[spent + votes_for_it, tied + (votes_for_it == j)] += number * comb(
                            count, votes_for_it
                        )
                ways = dict(grown)
            total += comb(own, j) * sum(
                number * comb(free, k - j - spent) / (1 + tied)
                for (spent, tied), number in ways.items()
            )
    return total / comb(num_samples, k)
