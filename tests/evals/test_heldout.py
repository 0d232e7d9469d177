from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroloop.evals.heldout import Score, interval, maj_at_k, pass_at_1, pass_at_k, scores_by_family

ANSWERS = ("right", "also right", "wrong", "other", "third", None)
RIGHT = {"right", "also right"}
samples = st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=9)


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
@given(samples, st.integers(1, 9))
def test_both_estimators_equal_the_mean_over_all_subsets(answers: list[str | None], k: int) -> None:
    problem, correct = ["p"] * len(answers), [answer in RIGHT for answer in answers]
    if k > len(answers):
        assert (
            pass_at_k(problem, correct, k).num_problems
            == maj_at_k(problem, correct, answers, k).num_problems
            == 0
        )
        return
    assert pass_at_k(problem, correct, k).value == pytest.approx(
        enumerated_pass(answers, k), abs=1e-12
    )
    assert maj_at_k(problem, correct, answers, k).value == pytest.approx(
        enumerated_majority(answers, k), abs=1e-12
    )


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(ANSWERS)), min_size=1, max_size=30),
    st.randoms(),
)
def test_the_order_of_the_rows_does_not_matter(
    rows: list[tuple[str, str | None]], random: object
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for k in (1, 2, 4):
        one, two = (
            (
                pass_at_k([p for p, _ in r], [a in RIGHT for _, a in r], k),
                maj_at_k([p for p, _ in r], [a in RIGHT for _, a in r], [a for _, a in r], k),
            )
            for r in (rows, mixed)
        )
        assert [s.value for s in one] == pytest.approx([s.value for s in two], nan_ok=True)


def test_a_ragged_panel_weighs_problems_equally() -> None:
    problem = ["a"] * 4 + ["b"] * 2 + ["c"]
    correct = [1, 1, 1, 0, 0, 0, 1]
    assert pass_at_1(problem, correct).value == pytest.approx((3 / 4 + 0 + 1) / 3)
    score = pass_at_k(problem, correct, 2)
    assert (score.value, score.num_problems) == (pytest.approx((1 + 0) / 2), 2)


def test_unscored_is_not_wrong_and_nothing_scored_is_undefined() -> None:
    assert pass_at_1(["a", "a", "b"], [1.0, math.nan, None]).value == 1.0
    empty = pass_at_1(["a", "b"], [None, math.nan])
    assert empty.num_problems == 0
    assert math.isnan(empty.value) and math.isnan(empty.low) and math.isnan(empty.high)
    assert pass_at_1([], []).num_problems == 0


def test_the_vote_needs_more_than_the_first_k_samples() -> None:
    answers = ["wrong", "wrong", "right", "right", "right", "right"]
    score = maj_at_k(["p"] * 6, [a == "right" for a in answers], answers, 3)
    assert score.value == pytest.approx(16 / 20)  # the first three samples alone would say 0
    assert maj_at_k(["p"] * 4, [1, 1, 0, 0], ["x", "x", "y", "y"], 4).value == 0.5


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pass_at_k(["a"], [1], 0)


def test_none_right_of_twenty_does_not_claim_certainty() -> None:
    none = pass_at_1(list(range(20)), [0] * 20)
    assert none.value == none.low == 0.0
    assert 0.13 < none.high < 0.25
    every = pass_at_1(list(range(20)), [1] * 20)
    assert every.low == pytest.approx(1 - none.high)
    eight_each = pass_at_1([p for p in range(20) for _ in range(8)], [0] * 160)
    assert eight_each == none, "eight equal samples of a problem are one observation"


def test_one_problem_says_nothing_about_others() -> None:
    assert pass_at_1(["a"] * 8, [1] * 8) == Score(1.0, 0.0, 1.0, 1)


def test_repeating_every_sample_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(3)
    correct = rng.integers(0, 2, 40)
    once = pass_at_1(list(range(40)), correct)
    tenfold = pass_at_1(np.repeat(np.arange(40), 10), np.repeat(correct, 10))
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(
    ("number", "mean", "spread"),
    [(5, 0.5, 3), (20, 0.1, 3), (20, 0.5, 0.5), (60, 0.5, 3), (60, 0.9, 0.5), (120, 0.1, 3)],
)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(
    number: int, mean: float, spread: float
) -> None:
    rng = np.random.default_rng(number)
    chances = rng.beta(mean * spread, (1 - mean) * spread, (800, number))
    estimates = rng.binomial(8, chances) / 8
    bounds = np.array([interval(list(row), 8 * number) for row in estimates])
    covered = float(np.mean((bounds[:, 0] <= mean) & (mean <= bounds[:, 1])))
    print(f"{number} problems, mean {mean}: {covered:.3f}")
    assert 0.91 <= covered <= 0.999
    assert np.all(
        (bounds[:, 0] <= estimates.mean(1) + 1e-9) & (estimates.mean(1) <= bounds[:, 1] + 1e-9)
    )


def test_the_unbiased_estimator_hits_the_truth_where_the_plug_in_misses_it() -> None:
    rng = np.random.default_rng(0)
    chance, n, k = 0.2, 6, 4
    correct = rng.random((4000, n)) < chance
    problem = np.repeat(np.arange(4000), n)
    truth = 1 - (1 - chance) ** k
    plug_in = float(np.mean(1 - (1 - correct.mean(1)) ** k))
    score = pass_at_k(problem, correct.ravel(), k)
    assert score.low <= truth <= score.high
    assert abs(score.value - truth) < 0.02 < abs(plug_in - truth)


def test_the_report_has_the_shape_that_a_run_directory_promises() -> None:
    problem = ["a", "a", "a", "b", "b", "b", "c", "c", "c"]
    family = ["easy"] * 6 + ["hard"] * 3
    correct = [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, math.nan, math.nan, math.nan]
    answer = ["5", "6", "5", "7", "7", "8", None, "1", "1"]
    report = scores_by_family(
        problem, family, correct, answer, pass_k=2, majority_k=2, greedy=[False, False, True] * 3
    )
    assert list(report) == ["easy", "hard"]
    easy = report["easy"]
    assert list(easy) == ["num_problems", "pass@1", "pass@k", "maj@k", "greedy"]
    assert easy["num_problems"] == 2
    assert (easy["pass@1"]["value"], easy["pass@k"]["value"], easy["greedy"]["value"]) == (
        0.75,
        1.0,
        0.5,
    )
    assert easy["maj@k"]["value"] == pytest.approx((0.5 + 1.0) / 2)
    assert report["hard"]["num_problems"] == 1
    assert report["hard"]["pass@1"] == {"value": None, "low": None, "high": None}
    json.dumps(report, allow_nan=False)
    assert (
        scores_by_family(problem, family, correct, answer, pass_k=2, majority_k=2)["easy"][
            "greedy"
        ]["value"]
        is None
    )


def test_a_large_panel_is_scored_in_seconds_and_arrays_do_as_well_as_lists() -> None:
    rng = np.random.default_rng(1)
    answers = rng.integers(0, 12, 200 * 64)
    score = maj_at_k(
        np.repeat(np.arange(200), 64),
        answers == 0,
        np.array([str(a) for a in answers], dtype=object),
        32,
    )
    assert score.num_problems == 200
    assert 0 < score.low < score.value < score.high < 1
