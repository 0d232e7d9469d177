"""maj@k, the chance that a vote of k samples is right (self-consistency): exact, for any n >= k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np

from ouroloop.monitors.base import Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.scores import Scores


def majority_at(samples: Samples, k: int) -> Scores:
    """maj@k per problem, in [0, 1]: exact over all k-subsets of its samples.

    NaN for a problem with fewer than k samples, or without a scored one: see `right_votes`.

    Source: Wang et al. 2203.11171, section 2 (unweighted vote); they draw k samples once, this is
    the expectation over the draw.
    """
    problems, problem_N = codes(samples.problem)
    if not problems:
        return {}
    order_N = np.argsort(problem_N, kind="stable")
    ends = np.cumsum(np.bincount(problem_N))[:-1]
    return {
        problem: right_votes(samples.correct[rows].tolist(), samples.answer[rows].tolist(), k)
        for problem, rows in zip(problems, np.split(order_N, ends), strict=True)
    }


def right_votes(
    correct: Sequence[float | bool | None],
    answer: Sequence[str | None],
    k: int,
) -> float:
    """maj@k of one problem's samples, in [0, 1].

    A tie is broken uniformly at random among the tied answers. A sample without an answer does not
    vote; when nobody votes, the problem is wrong. An answer is right when most of its scored
    samples are.

    Args:
        correct: right or not; None or NaN: unscored.
        answer: canonical answers, None where there is none.
        k: how many vote.

    Returns:
        NaN with fewer than k samples, or without a scored one.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    scored = [
        (bool(right), said)
        for right, said in zip(correct, answer, strict=True)
        if right is not None and right == right  # NaN differs from itself: unscored
    ]
    if len(correct) < k or not scored:
        return float("nan")
    votes = Counter(said for said in answer if isinstance(said, str))
    winners = []
    for said in votes:
        judged = [right for right, other in scored if other == said]
        if judged and 2 * sum(judged) > len(judged):
            winners.append(votes[said])
    return _vote(
        tuple(sorted(winners)),
        tuple(sorted(votes.values())),
        len(correct),
        k,
    )


@lru_cache(maxsize=8192)
def _vote(
    winners: tuple[int, ...],
    votes: tuple[int, ...],
    num_samples: int,
    k: int,
) -> float:
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
    # A vote is won with exactly j votes, for some j; ties are shared evenly.
    total = 0.0
    for own in winners:
        others = list(votes)
        others.remove(own)
        for j in range(1, min(own, k) + 1):
            # Answers given fewer than j times cannot reach j: any number of their votes will do,
            # and so will any number of abstentions.
            free = num_samples - sum(votes) + sum(count for count in others if count < j)
            rivals = [count for count in others if count >= j]
            total += comb(own, j) * sum(
                number * comb(free, k - j - spent) / (1 + tied)
                for (spent, tied), number in _ways(rivals, j, k).items()
            )
    return total / comb(num_samples, k)


def _ways(
    rivals: Sequence[int],
    j: int,
    k: int,
) -> dict[tuple[int, int], int]:
    """(Votes spent on rivals that could reach j, rivals tied at j) -> number of subsets."""
    ways = {(0, 0): 1}
    for count in rivals:
        grown: Counter[tuple[int, int]] = Counter()
        for (spent, tied), number in ways.items():
            for given in range(min(j, k - j - spent) + 1):
                grown[spent + given, tied + (given == j)] += number * comb(count, given)
        ways = dict(grown)
    return ways
