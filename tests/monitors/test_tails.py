import numpy as np
import pytest
from simulated_panel import pool, samples

from ouroloop.monitors.base import Pool, RoundView
from ouroloop.monitors.metrics.supply import Supply, effective_share, path
from ouroloop.monitors.metrics.tails import Tails, gini, gini_at_random, hard_share, lowest


def graded(rng, ease_P, size=4, kept=None):
    """A pool that keeps what is right, or what `kept` says."""
    problem_N = np.repeat(np.arange(len(ease_P)), size)
    right = rng.random(len(problem_N)) < np.asarray(ease_P)[problem_N]
    names = np.array([f"p{i:04d}" for i in problem_N], dtype=object)
    return Pool(
        names,
        names,
        names,
        right.astype(float),
        right if kept is None else kept(right),
        names,
    )


@pytest.mark.slow
def test_equally_hard_problems_read_one_where_the_same_half_twice_reads_far_less():
    rng, ours, naive, held = np.random.default_rng(0), [], [], 0
    for _ in range(150):
        data = graded(rng, np.full(100, 0.5))
        estimate = hard_share(data)
        ours.append(estimate.value)
        held += estimate.low <= 1 <= estimate.high
        right_P = data.correct.reshape(100, 4).sum(axis=1)
        naive.append(np.sum(lowest(right_P, 0.25) * right_P) / right_P.sum() / 0.25)
    assert np.mean(ours) == pytest.approx(1, abs=3 * np.std(ours) / np.sqrt(150))
    assert np.mean(naive) < 0.5 and held >= 138


def test_hard_problems_that_the_filter_starves_are_seen_and_a_filter_blind_to_them_is_not():
    rng = np.random.default_rng(1)
    ease = np.repeat([0.1, 0.5, 0.7, 0.9], 100)
    assert hard_share(graded(rng, ease, size=8)).high < 0.5
    blind = hard_share(graded(rng, ease, size=8, kept=lambda right: rng.random(len(right)) < 0.4))
    assert blind.low < 1 < blind.high


def test_without_gold_the_share_kept_says_what_is_hard():
    data = graded(np.random.default_rng(2), np.repeat([0.1, 0.9], 100), size=8)
    unknown = Pool(
        data.problem,
        data.strategy,
        data.answer,
        np.full(len(data.kept), np.nan),
        data.kept,
        data.reason,
    )
    assert hard_share(unknown).value == hard_share(data).value


def test_ties_at_the_edge_of_the_hardest_share_what_is_left():
    assert lowest(np.array([0.0, 0.5, 0.5, 1.0]), 0.5).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert lowest(np.array([0.3, 0.3, 0.3, 0.3]), 0.25).tolist() == [0.25] * 4


def test_gini_is_scikit_bios_corrected_and_that_of_all_pairs(skbio_alpha):
    rng = np.random.default_rng(3)
    for size in (2, 7, 40):
        count = rng.poisson(2, size).astype(float) + (np.arange(size) == 0)
        pairs = np.abs(np.subtract.outer(count, count)).sum() / (size * (size - 1))
        assert gini(count) == pytest.approx(pairs / (2 * count.mean()))
        assert gini(count) == pytest.approx(
            skbio_alpha.gini_index(count, method="trapezoids") * size / (size - 1)
        )
    assert gini(np.full(9, 3.0)) == 0.0 and gini(np.array([0.0, 0.0, 5.0])) == 1.0
    assert np.isnan(gini(np.zeros(4)))


def test_a_careless_filter_has_the_gini_of_chance():
    readings = {
        r.name: r
        for r in Tails().measure(
            RoundView(1, samples(np.random.default_rng(0), 4), pool=pool(np.random.default_rng(4))),
            None,
        )
    }
    chance = readings["tail/gini:all:all:pool"].details["at_random"]
    assert readings["tail/gini:all:all:pool"].low < chance < readings["tail/gini:all:all:pool"].high
    k, q = 4, 0.4  # mean difference of two binomials, by the table of all outcomes
    p = np.array([1, 4, 6, 4, 1]) * q ** np.arange(5) * (1 - q) ** (k - np.arange(5))
    exact = np.sum(np.outer(p, p) * np.abs(np.subtract.outer(np.arange(5), np.arange(5)))) / (
        2 * k * q
    )
    assert gini_at_random(np.full(2_000, 4.0), q) == pytest.approx(exact, abs=0.005)
    assert (
        readings["tail/slice_ratio:all:all:pool"].low
        < 1
        < readings["tail/slice_ratio:all:all:pool"].high
    )


def test_a_starved_slice_has_a_ratio_below_one():
    data = pool(np.random.default_rng(5), 200)
    kept = data.kept & ((data.slice != "tail") | (np.arange(len(data.kept)) % 3 == 0))
    narrowed = Pool(
        data.problem,
        data.strategy,
        data.answer,
        data.correct,
        kept,
        data.reason,
        slice=data.slice,
    )
    readings = {
        r.name: r
        for r in Tails().measure(
            RoundView(1, samples(np.random.default_rng(0), 4), pool=narrowed),
            None,
        )
    }
    expected = (kept & (data.slice == "tail")).sum() / kept.sum() / 0.25
    assert (
        readings["tail/slice_ratio:all:all:pool"].value == pytest.approx(expected)
        and readings["tail/slice_ratio:all:all:pool"].high < 1
    )


def test_effective_problems_are_kishs_and_paths_are_counted_by_their_calculations():
    assert effective_share(np.array([3.0, 3.0, 3.0])) == 1.0
    assert effective_share(np.array([4.0, 1.0, 1.0, 0.0])) == pytest.approx(36 / 18 / 4)
    text = np.array(
        ["1+2=3. So 3", "So 1 + 2 = 3", "2+2=4", "plain words", "plain  words", "4+4=8"],
        dtype=object,
    )
    problem = np.array(["a", "a", "a", "b", "b", "b"], dtype=object)
    kept = np.array([True, True, True, True, True, False])
    data = Pool(problem, problem, problem, np.ones(6), kept, problem, text=text)
    readings = {
        r.name: r
        for r in Supply().measure(
            RoundView(1, samples(np.random.default_rng(0), 4), pool=data),
            None,
        )
    }
    assert readings["supply/paths_per_problem:all:all:pool"].value == 1.5
    assert readings["supply/paths_per_problem:all:all:pool"].details[
        "distinct_share"
    ] == pytest.approx(3 / 5)
    assert readings["supply/effective_problems:all:all:pool"].value == pytest.approx(25 / 13)
    assert path("no sum") != path("1+1=2")
