import numpy as np
import pytest
from simulated_panel import pool, samples

from ouroloop.monitors.base import Pool, RoundView
from ouroloop.monitors.estimators.multiplicity import benjamini_yekutieli
from ouroloop.monitors.metrics.selection import (
    NO_NAME,
    Selection,
    accuracy_gain,
    fresh_share,
    largest_ratio,
    ratios_of,
    selection_ratios,
)


def drawn(rng, shares, kept_by_strategy, num_problems=100, size=8, spread=6.0):
    """A pool in which the samples of a problem are alike, in strategy and in being kept."""
    problem_N = np.repeat(np.arange(num_problems), size)
    own = rng.dirichlet(np.array(shares) * spread, num_problems)
    strategy_N = np.array([rng.choice(len(shares), size=size, p=p) for p in own]).ravel()
    ease_P = rng.beta(8, 8, num_problems) * 2
    kept = rng.random(len(problem_N)) < np.clip(
        np.array(kept_by_strategy)[strategy_N] * ease_P[problem_N],
        0,
        1,
    )
    names = np.array([f"s{s}" for s in strategy_N], dtype=object)
    problem = np.array([f"p{i:04d}" for i in problem_N], dtype=object)
    return Pool(problem, names, names, kept.astype(float), kept, names)


def test_adjusted_p_values_are_those_of_statsmodels(statsmodels):
    rng = np.random.default_rng(0)
    for num in (1, 2, 7, 40):
        p = rng.beta(0.3, 1, num)
        expected = statsmodels.stats.multitest.multipletests(p, method="fdr_by")[1]
        assert benjamini_yekutieli(p) == pytest.approx(expected)
    assert benjamini_yekutieli([np.nan, 0.01]) == pytest.approx([1.0, 0.03])


def test_ratios_equal_hand_counts_and_small_clusters_are_left_out():
    strategy = np.array(["a"] * 12 + ["b"] * 10 + [None] * 14 + ["rare"] * 4, dtype=object)
    kept = np.array([1] * 6 + [0] * 6 + [1] * 10 + [0] * 14 + [1] * 4, dtype=bool)
    problem = np.array([f"p{i % 8}" for i in range(40)], dtype=object)
    correct = np.where(np.arange(40) < 3, 1.0, np.nan)
    found = {
        r.cluster: r
        for r in selection_ratios(Pool(problem, strategy, strategy, correct, kept, strategy))
    }
    assert set(found) == {"a", "b", NO_NAME}
    assert found["a"].ratio == pytest.approx((6 / 20) / (12 / 40)) and (
        found["a"].num_raw,
        found["a"].num_kept,
    ) == (12, 6)
    assert found["b"].ratio == pytest.approx((10 / 20) / (10 / 40))
    assert found[NO_NAME].ratio == found[NO_NAME].low == 0.0
    assert found[NO_NAME].high == pytest.approx((1 - 0.025 ** (1 / 8)) / (14 / 40))
    assert found["a"].right == 1.0 and np.isnan(found["b"].right)


def test_the_clustered_error_is_that_of_leaving_out_every_problem_in_turn():
    data = drawn(np.random.default_rng(1), (0.5, 0.3, 0.2), (0.6, 0.4, 0.2))
    for r in selection_ratios(data):
        logs = []
        for p in np.unique(data.problem):
            rest = data.problem != p
            share = (data.strategy[rest & data.kept] == r.cluster).mean() / (
                data.strategy[rest] == r.cluster
            ).mean()
            logs.append(np.log(share))
        brute = np.sqrt(99 / 100 * np.sum((logs - np.mean(logs)) ** 2))
        assert np.log(r.high / r.low) / 2 / 1.984 == pytest.approx(brute, rel=0.06)


def test_a_strategy_per_problem_and_a_filter_that_keeps_everything_are_defined():
    data = drawn(np.random.default_rng(2), (0.5, 0.5), (1, 1))
    everything = Pool(
        data.problem,
        data.strategy,
        data.answer,
        data.correct,
        np.ones(len(data.kept), dtype=bool),
        data.reason,
    )
    for r in selection_ratios(everything):
        assert (r.ratio, r.low, r.high, r.p_adjusted) == pytest.approx((1, 1, 1, 1))


@pytest.mark.slow
def test_intervals_hold_and_no_more_than_five_percent_of_careless_filters_look_selective():
    rng = np.random.default_rng(3)
    held = alarms = both = num = 0
    for _ in range(600):
        found = selection_ratios(drawn(rng, (0.45, 0.3, 0.15, 0.07, 0.03), (0.4,) * 5))
        held += sum(r.low <= 1 <= r.high for r in found)
        num += len(found)
        alarms += any(r.p_adjusted <= 0.05 for r in found)
        _, low, high = largest_ratio(found)
        both += low <= 1 <= high
    assert held / num > 0.93 and alarms / 600 < 0.07 and both / 600 > 0.92


def test_a_shortcut_is_seen_before_it_has_five_percent():
    """0.2 % of the samples, kept 1.35 times as often.

    It grows 1.35-fold a round, and would pass 5 % in round 11.
    """
    rng, share, flagged = np.random.default_rng(4), 0.002, None
    for _ in range(11):
        rest = (1 - share) / 2
        data = drawn(
            rng,
            (rest, rest, share),
            (0.5, 0.5, 0.675),
            num_problems=500,
            size=16,
            spread=60.0,
        )
        hit = {r.cluster: r for r in selection_ratios(data)}.get("s2")
        if hit is not None and hit.low > 1:
            flagged = share
            break
        share = share * 1.35
    assert flagged is not None and flagged < 0.05


def test_the_fresh_share_is_where_growth_stops():
    for ratio in (1.2, 2.0, 5.0):
        assert (1 - fresh_share(ratio)) * ratio == pytest.approx(1.0)
    assert fresh_share(0.7) == fresh_share(0.0) == 0.0


def test_invasion_flips_at_the_fresh_share():
    """Shares of a strategy selected by R each round with a share `fresh` of data without it.

    It grows below 1 - 1/R, dies out above.
    """
    for ratio in (1.25, 1.6, 2.5):
        for offset in (-0.05, 0.05):
            share, fresh = 0.01, fresh_share(ratio) + offset
            for _ in range(400):
                share = (1 - fresh) * share * ratio / (share * ratio + 1 - share)
            assert (share > 0.01) == (offset < 0)


def test_readings_name_the_strategy_and_the_fresh_share():
    data = drawn(np.random.default_rng(5), (0.5, 0.3, 0.2), (0.3, 0.3, 0.9), num_problems=300)
    view = RoundView(1, samples(np.random.default_rng(0), 4), pool=data)
    largest, fresh, gain = Selection().measure(view, None)
    assert (
        largest.details["cluster"] == "s2"
        and "s2" in largest.details["selected"]
        and largest.low > 1
    )
    assert gain.value == pytest.approx(1 - data.kept.mean())
    assert fresh.value == pytest.approx(1 - 1 / largest.value) and fresh.low == pytest.approx(
        1 - 1 / largest.low
    )
    quiet = Selection().measure(
        RoundView(1, view.probe, pool=pool(np.random.default_rng(6))),
        None,
    )[0]
    assert quiet.low <= 1 <= quiet.high and not quiet.details["selected"]


def test_the_verifiers_gain_is_that_of_the_kept_over_the_raw_and_its_interval_holds_the_truth():
    rng, held = np.random.default_rng(7), 0
    for _ in range(200):
        problem_N = np.repeat(np.arange(60), 8)
        right = rng.random(480) < rng.beta(4, 4, 60)[problem_N]
        kept = rng.random(480) < np.where(right, 0.8, 0.2)
        names = np.array([f"p{i}" for i in problem_N], dtype=object)
        e = accuracy_gain(Pool(names, names, names, right.astype(float), kept, names))
        assert e.value == pytest.approx(right[kept].mean() - right.mean())
        held += e.low <= 0.3 <= e.high
    assert held >= 182
    unknown = Pool(names, names, names, np.full(480, np.nan), kept, names)
    assert np.isnan(accuracy_gain(unknown).value)


@pytest.mark.slow
def test_time_grows_with_the_rows_not_with_rows_times_strategies():
    num = 60_000
    names = np.array([f"s{i // 12}" for i in range(num)], dtype=object)
    problem = np.array([f"p{i % 3000}" for i in range(num)], dtype=object)
    found = ratios_of(names, problem, np.arange(num) % 3 == 0, np.full(num, np.nan))
    assert len(found) == 5_000
