import itertools

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.base import Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.stats import ratio
from ouroloop.monitors.metrics.rare import rare_mass


def probe(rows):
    """Samples from (problem, answer, correct, strategy) tuples."""
    problem, answer, correct, strategy = (list(column) for column in zip(*rows, strict=True))
    num = len(rows)
    objects = {
        "problem": problem,
        "answer": answer,
        "strategy": strategy,
        "family": ["f"] * num,
        "slice": ["typical"] * num,
        "text": [""] * num,
    }
    numbers = {
        "correct": correct,
        "valid": [1.0] * num,
        "nll": [0.5] * num,
        "num_tokens": [9.0] * num,
        "truncated": [0.0] * num,
    }
    return Samples(
        **{k: np.array(v, dtype=object) for k, v in objects.items()},
        **{k: np.array(v, dtype=float) for k, v in numbers.items()},
    )


@pytest.mark.slow
def test_overconfidence_equals_the_mean_over_all_ways_to_split():
    answers = ["7", "7", "7", "3", "3", None]
    rows = probe([("p", a, float(a == "7"), "s") for a in answers])
    expected = []
    for first in itertools.combinations(range(6), 3):
        half = [answers[i] for i in first if answers[i] is not None]
        rest = [answers[i] for i in range(6) if i not in first]
        winners = [a for a in set(half) if half.count(a) == max(map(half.count, half))]
        expected.append(np.mean([rest.count(winner) / 3 - (winner == "7") for winner in winners]))
    assert scores.votes(rows, 6, num_splits=20_000).overconfidence()["p"] == pytest.approx(
        np.mean(expected),
        abs=0.01,
    )


def test_overconfidence_of_a_calibrated_model_is_zero_and_the_same_half_twice_is_biased_up():
    """The right answer is drawn from the model's own distribution.

    A vote is right as often as its true share says.
    """
    rng = np.random.default_rng(0)
    rows, naive = [], []
    for p in range(3_000):
        q = rng.dirichlet([1.0, 1.0, 1.0])
        right = rng.choice(3, p=q)
        drawn = rng.choice(3, size=8, p=q)
        rows += [(f"{p}", str(a), float(a == right), "s") for a in drawn]
        winner = np.bincount(drawn, minlength=3).argmax()
        naive.append((drawn == winner).mean() - (winner == right))
    ours = np.array(list(scores.votes(probe(rows), 8).overconfidence().values()))
    assert abs(ours.mean()) < 3 * ours.std() / np.sqrt(3_000)
    assert np.mean(naive) > 0.05


def test_votes_of_unreadable_answers_claim_nothing():
    rows = probe([("p", None, 0.0, "s")] * 4)
    assert scores.votes(rows, 4).overconfidence() == {"p": 0.0}


def test_unscored_samples_are_left_out_not_counted_as_wrong():
    rows = probe(
        [
            ("p", "1", 1.0, "a"),
            ("p", "1", np.nan, "a"),
            ("p", "2", 0.0, "b"),
            ("q", "1", np.nan, "a"),
        ]
    )
    assert scores.accuracy(rows) == {"p": 0.5}


def test_right_samples_without_a_strategy_never_look_diverse():
    rows = probe(
        [("p", "1", 1.0, None), ("p", "1", 1.0, None), ("q", "1", 1.0, "a"), ("q", "1", 1.0, None)]
    )
    assert scores.distinct_correct_pairs(rows) == {"p": 0.0, "q": 1.0}


def test_problems_that_went_wrong_altogether_count_as_no_diversity_instead_of_vanishing():
    rows = probe(
        [("p", "1", 0.0, None), ("p", "1", 0.0, None), ("q", "1", 1.0, "a"), ("q", "1", 1.0, "b")]
    )
    assert scores.distinct_correct_pairs(rows) == {"p": 0.0, "q": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(("num_samples", "num_runs"), [(8, 300), (64, 60)])
def test_rare_retention_of_an_unchanged_model_is_one(num_samples, num_runs):
    """8 samples a problem: rare in the family; 64: rare in the problem."""
    rng = np.random.default_rng(num_samples)
    sums = []
    for _ in range(num_runs):
        then, now = (samples(rng, num_problems=40, num_samples=num_samples) for _ in range(2))
        mass = rare_mass(now, then, num_splits=8)
        sums.append((sum(mass.current.values()), sum(mass.reference.values())))
    now_R, then_R = np.array(sums).T
    error = 3 * np.std(now_R - then_R) / np.sqrt(num_runs) / then_R.mean()
    assert error < 0.05
    assert now_R.mean() / then_R.mean() == pytest.approx(1, abs=error)


@pytest.mark.slow
def test_rare_retention_of_identical_models_is_one_within_one_percent():
    rng, sums = np.random.default_rng(5), []
    for _ in range(250):
        then, now = (samples(rng, num_problems=200, num_samples=16) for _ in range(2))
        mass = rare_mass(now, then, num_splits=4)
        sums.append((sum(mass.current.values()), sum(mass.reference.values())))
    now_R, then_R = np.array(sums).T
    assert (
        np.std(now_R - then_R) / np.sqrt(250) / then_R.mean() < 0.005
    )  # the test can see one percent
    assert now_R.mean() / then_R.mean() == pytest.approx(1, abs=0.01)


def test_rare_retention_reads_the_share_of_the_mass_that_is_left():
    rng = np.random.default_rng(9)
    then = samples(rng, num_problems=400, shares=(0.45, 0.27, 0.20, 0.08))
    now = samples(rng, num_problems=400, shares=(0.49, 0.27, 0.20, 0.04))
    mass = rare_mass(now, then)
    assert mass.rare == {"main": {"jump": 1.0}}
    assert ratio(list(mass.current.values()), list(mass.reference.values())).value == pytest.approx(
        0.5,
        abs=0.1,
    )


def test_rare_retention_by_problem_would_be_biased_without_the_split():
    rng = np.random.default_rng(10)
    then, now = (samples(rng, num_problems=300, num_samples=64) for _ in range(2))
    split = rare_mass(now, then)
    whole = then.where(np.isfinite(then.correct))
    chosen = codes(whole.problem)[1] * 4 + codes(whole.strategy)[1]
    count = np.bincount(chosen, weights=whole.correct)
    rare = (count > 0) & (count <= 6)
    key_now = codes(now.problem)[1] * 4 + codes(now.strategy)[1]
    naive = (now.correct * rare[key_now]).sum() / (whole.correct * rare[chosen]).sum()
    ours = ratio(list(split.current.values()), list(split.reference.values()))
    assert abs(ours.value - 1) < 0.05 < abs(naive - 1)


def test_halves_do_not_depend_on_the_order_of_the_rows():
    rows = samples(np.random.default_rng(1), num_problems=20)
    order = np.random.default_rng(2).permutation(len(rows))
    assert (
        scores.votes(rows, 8).overconfidence()
        == scores.votes(rows.where(order), 8).overconfidence()
    )
