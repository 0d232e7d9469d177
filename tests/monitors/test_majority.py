"""pass@k and maj@k against the mean over all subsets, and the interval of a share by simulation."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_panel import samples

from ouroloop.monitors.estimators.majority import majority_at, right_votes
from ouroloop.monitors.estimators.stats import mean_in_unit, share
from ouroloop.monitors.estimators.ustatistics import pass_at_k

ANSWERS = ("right", "also right", "wrong", "other", "third", None)
RIGHT = {"right", "also right"}
some_answers = st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=9)


def right_at_least_once(correct: list[bool], k: int) -> float:
    counts = np.array([sum(correct)], dtype=float), np.array([len(correct)], dtype=float)
    return float(pass_at_k(*counts, k)[0])


def enumerated_pass(answers: list[str | None], k: int) -> float:
    subsets = list(itertools.combinations(answers, k))
    return sum(any(answer in RIGHT for answer in subset) for subset in subsets) / len(subsets)


def enumerated_majority(answers: list[str | None], k: int) -> float:
    total = 0.0
    subsets = list(itertools.combinations(answers, k))
    for subset in subsets:
        votes = Counter(answer for answer in subset if answer is not None)
        tied = [answer for answer in votes if votes[answer] == max(votes.values())]
        total += sum(answer in RIGHT for answer in tied) / len(tied) if tied else 0
    return total / len(subsets)


@settings(max_examples=150, deadline=None)
@given(some_answers, st.integers(1, 9))
def test_both_estimators_equal_the_mean_over_all_subsets(answers: list[str | None], k: int) -> None:
    correct = [answer in RIGHT for answer in answers]
    found = right_at_least_once(correct, k), right_votes(correct, answers, k)
    if k > len(answers):
        assert all(map(math.isnan, found))
        return
    expected = enumerated_pass(answers, k), enumerated_majority(answers, k)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(st.lists(st.sampled_from(ANSWERS), min_size=4, max_size=12), st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows: list[str | None], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for k in (1, 2, 4):
        one, two = (right_votes([a in RIGHT for a in r], r, k) for r in (rows, mixed))
        assert one == pytest.approx(two)


def test_unscored_is_not_wrong_and_nothing_scored_is_undefined() -> None:
    assert right_votes([1.0, math.nan, None], ["5", "5", "5"], 3) == 1.0
    assert math.isnan(right_votes([None, math.nan], ["5", "5"], 1))


def test_the_vote_needs_more_than_the_first_k_samples() -> None:
    answers = ["wrong", "wrong", "right", "right", "right", "right"]
    correct = [answer == "right" for answer in answers]
    assert right_votes(correct, answers, 3) == pytest.approx(16 / 20)  # the first three alone: 0
    assert right_votes([1, 1, 0, 0], ["x", "x", "y", "y"], 4) == 0.5


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        right_votes([1], ["a"], 0)


def test_every_problem_of_a_probe_votes_for_itself() -> None:
    probe = samples(np.random.default_rng(0), 30)
    found = majority_at(probe, 5)
    assert list(found) == sorted(set(probe.problem))
    for problem in list(found)[:5]:
        mine = probe.where(probe.problem == problem)
        alone = right_votes(mine.correct.tolist(), mine.answer.tolist(), 5)
        assert found[problem] == alone
    assert majority_at(probe.where(np.zeros(len(probe), dtype=bool)), 5) == {}


def test_a_large_probe_is_voted_on_in_seconds() -> None:
    probe = samples(np.random.default_rng(1), 200, 64)
    found = list(majority_at(probe, 32).values())
    assert len(found) == 200 and 0 < np.mean(found) < 1


def test_none_right_of_twenty_does_not_claim_certainty() -> None:
    none = mean_in_unit([0.0] * 20, 20)
    assert none.value == none.low == 0.0 and 0.13 < none.high < 0.25
    assert mean_in_unit([1.0] * 20, 20).low == pytest.approx(1 - none.high)
    eight_each = share([0] * 20, [8] * 20)
    assert eight_each == none, "eight equal samples of a problem are one observation"


def wilson(estimates: np.ndarray, num_draws: float) -> tuple[float, float]:
    """The method that lost: Wilson's interval at Korn and Graubard's effective size."""
    number, mean = len(estimates), float(estimates.mean())
    variance, spread = float(estimates.var(ddof=1)) / number, mean * (1 - mean)
    size = float(number)
    if spread > 1e-12:
        size = min(num_draws, spread / variance) if variance > 0 else num_draws
    z, t = 1.959964, {20: 2.093024, 60: 2.000995}[number]
    size *= (z / t) ** 2
    centre = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(spread / size + z * z / (4 * size * size))
    return centre - half, centre + half


CASES = [
    (20, 0.02, 0.3),
    (20, 0.1, 3),
    (20, 0.5, 0.5),
    (60, 0.02, 0.3),
    (60, 0.5, 3),
    (60, 0.9, 0.5),
]
"""Problems, mean accuracy, and a + b of the beta distribution of the problems' own accuracies."""


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says_also_with_few_problems() -> None:
    """One interval for every share: Clopper-Pearson at the effective size, at least one a problem.

    Wilson's interval at that size is a little shorter, and falls short where a few problems hold
    nearly all of a small success rate: the effective size is then itself read from a few problems.
    """
    covered: dict[str, list[float]] = {"clopper_pearson": [], "wilson": []}
    for number, mean, spread in CASES:
        rng = np.random.default_rng(number)
        chances = rng.beta(mean * spread, (1 - mean) * spread, (800, number))
        rows = rng.binomial(8, chances) / 8
        ends = {
            "clopper_pearson": [mean_in_unit(row, 8 * number)[1:3] for row in rows],
            "wilson": [wilson(row, 8 * number) for row in rows],
        }
        for name, found in ends.items():
            covered[name].append(np.mean([low <= mean <= high for low, high in found]))
    print({name: np.round(found, 3).tolist() for name, found in covered.items()})
    assert min(covered["clopper_pearson"]) >= 0.93 and max(covered["clopper_pearson"]) <= 0.999
    assert min(covered["wilson"]) < min(covered["clopper_pearson"])


def test_the_unbiased_estimator_hits_the_truth_where_the_plug_in_misses_it() -> None:
    rng = np.random.default_rng(0)
    chance, n, k = 0.2, 6, 4
    right_P = rng.binomial(n, chance, 4000).astype(float)
    truth = 1 - (1 - chance) ** k
    plug_in = float(np.mean(1 - (1 - right_P / n) ** k))
    found = mean_in_unit(pass_at_k(right_P, np.full(4000, float(n)), k))
    assert found.low <= truth <= found.high
    assert abs(found.value - truth) < 0.02 < abs(plug_in - truth)
