"""One number per problem from a probe's samples: what readings average.

Every function is a symmetric function of a problem's samples: row order never matters. Unscored
rows (correct NaN) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Samples
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.estimators.ustatistics import (
    collision,
    distinct_pair_share,
    pass_at_k,
    same_pairs,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scores = dict[str, float]
"""problem -> score; NaN where the problem is too small for it."""
Score = Callable[[Samples], Scores]

# One split wastes half of the samples; the spread that is left after 32 is small beside that of
# the samples, and time grows with the number.
NUM_SPLITS = 32
SEED = 20_240


def by_problem(problems: Sequence[str], score_P: Floats) -> Scores:
    """The scores, (P,), by their problems."""
    return dict(zip(problems, score_P.tolist(), strict=True))


def scored(samples: Samples) -> Samples:
    """The rows whose answer was judged."""
    return samples.where(np.isfinite(samples.correct))


def accuracy(samples: Samples) -> Scores:
    """Share of right samples per problem, pass@1. Unbiased."""
    problems, num_P, right_P, _ = _counts(scored(samples))
    return by_problem(problems, right_P / num_P)


def pass_at(samples: Samples, k: int) -> Scores:
    """pass@k per problem (see `pass_at_k`); NaN with fewer than k scored samples."""
    problems, num_P, right_P, _ = _counts(scored(samples))
    return by_problem(problems, pass_at_k(right_P, num_P, k))


def families_with_strategies(*probes: Samples) -> set[str]:
    """Families in which at least one sample of any probe has a strategy id.

    Only there is strategy diversity defined.
    """
    return {
        family
        for probe in probes
        for family in codes(probe.family[codes(probe.strategy)[1] >= 0])[0]
    }


def distinct_correct_pairs(samples: Samples, families: Collection[str] | None = None) -> Scores:
    """DCP per problem (see `distinct_pair_share`), for the problems of these families.

    `families` None: those with strategies. Right samples without a strategy id count as one
    strategy of their own, so a failing canonicaliser never looks like diversity.
    """
    rows = scored(_within(samples, families))
    problems, num_P, right_P, problem_N = _counts(rows)
    right_N = rows.correct == 1
    same_P = same_pairs(problem_N[right_N], codes(rows.strategy)[1][right_N], len(problems))
    return by_problem(problems, distinct_pair_share(num_P, right_P, same_P))


def correct_pairs(samples: Samples, families: Collection[str] | None = None) -> Scores:
    """P(two samples are both right) per problem, acc^2, unbiased: c (c - 1) / [k (k - 1)]."""
    problems, num_P, right_P, _ = _counts(scored(_within(samples, families)))
    # No pair counts as the same: what is left of DCP is that both are right.
    share_P = distinct_pair_share(num_P, right_P, np.zeros(len(problems)))
    return by_problem(problems, share_P)


def gini_simpson(samples: Samples) -> Scores:
    """P(two samples of a problem use different strategies), right or wrong.

    Rows without one are left out.
    """
    strategy_N = codes(samples.strategy)[1]
    known_N = strategy_N >= 0
    problems, problem_N = codes(samples.problem[known_N])
    num_P = np.bincount(problem_N, minlength=len(problems)).astype(float)
    same_P = same_pairs(problem_N, strategy_N[known_N], len(problems))
    return by_problem(problems, distinct_pair_share(num_P, num_P, same_P))


def collisions(samples: Samples) -> Scores:
    """Share of samples of *other* problems with the same answer (see `collision`).

    Needs no gold answers.
    """
    problems, problem_N = codes(samples.problem)
    labels, answer_N = codes(samples.answer)
    num_P = np.bincount(problem_N, minlength=len(problems))
    known_N = answer_N >= 0
    width = max(len(labels), 1)
    keys, count_M = np.unique(problem_N[known_N] * width + answer_N[known_N], return_counts=True)
    problem_M, answer_M = keys // width, keys % width
    # A share of all samples: an unreadable answer collides with nothing.
    share_M = count_M / num_P[problem_M]
    score_P = collision(problem_M, answer_M, share_M, len(problems))
    return by_problem(problems, score_P)


@dataclass(frozen=True)
class Votes:
    """Split-half majority votes: one row per split (R) and problem (P).

    Confidence and vote come from different halves.

    Attributes:
        problems: their ids, (P,).
        confidence_RP: share of the first half's winner in the second half.
        correct_RP: whether that winner is right.
        num_RP: the second half's size.
        first_RP: the winner's share in the first half: biased up as a confidence, but independent
            of the second half's noise, so that grouping by it biases nothing.
    """

    problems: list[str]
    confidence_RP: Floats
    correct_RP: Floats
    num_RP: Floats
    first_RP: Floats

    def overconfidence(self) -> Scores:
        """Mean over splits of confidence - correct, in [-1, 1], per problem."""
        gap_P = (self.confidence_RP - self.correct_RP).mean(axis=0)
        return by_problem(self.problems, gap_P)


def split_halves(
    rank_key_N: tuple[Ints, ...],
    problem_N: Ints,
    num_splits: int,
    size: int | None = None,
) -> Iterator[tuple[Bools, Bools]]:
    """Random halves A and B of each problem's rows (B has one more when odd).

    The same for any order of the rows: they are first put in the order of `rank_key_N` (identical
    rows are interchangeable), then permuted at random.

    Args:
        rank_key_N: what distinguishes the rows of a problem.
        problem_N: each row's problem, as a number.
        num_splits: how many pairs of halves.
        size: halve that many rows of each problem, other ones in every split; None: all.

    Yields:
        Two masks (N,), disjoint.
    """
    rng = np.random.default_rng(SEED)
    # The order of the file must not decide which half a row lies in.
    canonical = np.lexsort((*rank_key_N, problem_N))
    size_P = np.bincount(problem_N)
    start_P = np.cumsum(size_P) - size_P
    sorted_N = problem_N[canonical]
    place_N = np.arange(len(canonical)) - start_P[sorted_N]
    used_N = size_P[sorted_N]
    if size is not None:
        used_N = np.minimum(used_N, size)
    for _ in range(num_splits):
        first_N, second_N = np.zeros((2, len(canonical)), dtype=bool)
        # A random number below 1 beside the problem's: shuffled within each problem.
        order_N = canonical[np.argsort(sorted_N + rng.random(len(canonical)))]
        first_N[order_N] = place_N < used_N // 2
        second_N[order_N] = (place_N >= used_N // 2) & (place_N < used_N)
        yield first_N, second_N


def votes(
    samples: Samples,
    size: int,
    num_splits: int = NUM_SPLITS,
) -> Votes:
    """Votes of half of `size` samples, for every problem with so many scored ones (M10).

    One half votes, the other says how sure the vote is. With `num_splits` random choices of the
    two: what a vote is worth depends on how many vote, so a problem with more samples gives more
    choices, not larger votes.

    Vote and share from the same samples would be biased up (winner's curse). An unreadable answer
    votes for nothing, but counts in the half's size; without any readable answer in the first half,
    confidence and correctness are 0. Ties are broken at random.
    """
    rows = scored(samples)
    problems, problem_N = codes(rows.problem)
    large_P = np.bincount(problem_N, minlength=len(problems)) >= max(size, 2)
    if len(rows):
        rows = rows.where(large_P[problem_N])
    problems, problem_N = codes(rows.problem)
    if not problems:
        return Votes([], *(np.zeros((num_splits, 0)) for _ in range(4)))
    labels, answer_N = codes(rows.answer)
    width = len(labels) + 1
    keys, cell_N = np.unique(problem_N * width + answer_N + 1, return_inverse=True)
    problem_M, readable_M = keys // width, keys % width > 0
    correct_M = np.bincount(cell_N, weights=rows.correct) / np.bincount(cell_N)
    out = np.zeros((4, num_splits, len(problems)))
    rng = np.random.default_rng(SEED + 1)
    halves = split_halves(
        (rows.correct.astype(np.int64), answer_N),
        problem_N,
        num_splits,
        size,
    )
    for index, (first_N, second_N) in enumerate(halves):
        first_M = np.bincount(cell_N[first_N], minlength=len(keys)) * readable_M
        second_M = np.bincount(cell_N[second_N], minlength=len(keys))
        # By problem, then by votes; the random key breaks ties.
        order = np.lexsort((rng.random(len(keys)), -first_M, problem_M))
        winner_P = order[np.searchsorted(problem_M[order], np.arange(len(problems)))]
        num_P = np.bincount(problem_N[second_N], minlength=len(problems))
        some_P = first_M[winner_P] > 0
        out[0, index] = np.where(some_P, second_M[winner_P] / num_P, 0.0)
        out[1, index] = np.where(some_P, correct_M[winner_P], 0.0)
        out[2, index] = num_P
        out[3, index] = first_M[winner_P] / np.bincount(problem_N[first_N], minlength=len(problems))
    return Votes(problems, *out)


def _counts(rows: Samples) -> tuple[list[str], Floats, Floats, Ints]:
    problems, problem_N = codes(rows.problem)
    num_P = np.bincount(problem_N, minlength=len(problems)).astype(float)
    right_P = np.bincount(problem_N, weights=rows.correct == 1, minlength=len(problems))
    return problems, num_P, right_P.astype(float), problem_N


def _within(samples: Samples, families: Collection[str] | None) -> Samples:
    # A family without strategies has none to be diverse in: its DCP would be 0 by definition.
    chosen = families_with_strategies(samples) if families is None else set(families)
    return samples.where(is_among(samples.family, chosen))
