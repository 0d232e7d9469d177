import numpy as np
import pytest

from ouroloop.monitors.estimators import stats


def clusters(rng, num, size, mean=0.5, spread=0.2):
    """Hits and totals of clusters whose probabilities differ."""
    p = np.clip(rng.normal(mean, spread, num), 0, 1)
    return rng.binomial(size, p).astype(float), np.full(num, float(size))


def test_exact_binomial_interval_agrees_with_scipy_and_statsmodels(statsmodels):
    from scipy import stats as sps

    for hits, num in [(0, 7), (3, 7), (7, 7), (1, 200), (100, 200)]:
        ours = stats.binomial(hits, num)
        exact = sps.binomtest(hits, num).proportion_ci(0.95, "exact")
        assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert (ours.low, ours.high) == pytest.approx(
            statsmodels.stats.proportion.proportion_confint(hits, num, method="beta"),
            abs=1e-9,
        )
    assert np.isnan(stats.binomial(0, 0).value)


def test_effective_df_is_full_for_light_tails_and_small_when_one_cluster_carries_all():
    rng = np.random.default_rng(0)
    assert stats.effective_df(rng.uniform(-1, 1, 50)) == 49
    assert 25 < np.mean([stats.effective_df(rng.standard_normal(60)) for _ in range(200)]) <= 59
    single = np.zeros(100)
    single[0] = 1
    assert stats.effective_df(single - single.mean()) < 3


def test_mean_has_the_students_t_interval():
    from scipy import stats as sps

    x = np.random.default_rng(1).uniform(0, 9, 40)
    ours, low, high, num = stats.mean([*x, np.nan])
    assert (low, high) == pytest.approx(
        sps.t.interval(0.95, 39, x.mean(), x.std(ddof=1) / np.sqrt(40))
    )
    assert (ours, num) == (pytest.approx(x.mean()), 40)
    one = stats.mean([3.0])
    assert one.value == 3.0 and np.isnan(one.low) and one.num_clusters == 1
    assert np.isnan(stats.mean([]).value)


def test_ratio_has_the_cluster_robust_error_of_statsmodels(statsmodels):
    from scipy import stats as sps

    rng = np.random.default_rng(2)
    size = rng.integers(1, 9, 60)
    group = np.repeat(np.arange(60), size)
    y = rng.normal(2, 1, len(group)) + rng.normal(0, 1, 60)[group]
    fit = statsmodels.api.OLS(y, np.ones(len(y))).fit(
        cov_type="cluster", cov_kwds={"groups": group}
    )
    sums = np.bincount(group, weights=y)
    ours = stats.ratio(sums, size)
    df = stats.effective_df(sums - ours.value * size)
    assert ours.value == pytest.approx(fit.params[0])
    assert (ours.high - ours.value) / sps.t.ppf(0.975, df) == pytest.approx(fit.bse[0], rel=1e-9)


def test_ratio_is_undefined_over_a_zero_denominator_and_has_no_interval_for_one_cluster():
    assert np.isnan(stats.ratio([1.0, 2.0], [0.0, 0.0]).value)
    assert np.isnan(stats.ratio([1.0], [2.0]).low)


def test_share_of_single_draws_is_the_exact_binomial_interval():
    hits = np.array([1.0] * 9 + [0.0] * 21)
    assert stats.share(hits, np.ones(30))[:3] == pytest.approx(stats.binomial(9, 30)[:3])


def test_share_at_zero_and_at_one_is_bounded_by_the_number_of_clusters_not_of_samples():
    for num, size in [(1, 8), (5, 8), (120, 8)]:
        zero = stats.share(np.zeros(num), np.full(num, size))
        assert (zero.low, zero.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / num)))
        full = stats.share(np.full(num, size), np.full(num, size))
        assert (full.low, full.high) == pytest.approx((0.025 ** (1 / num), 1.0))


def test_share_at_level_one_may_be_anything():
    """As where a run's error rate is so small that 1 less it is 1."""
    estimate = stats.share([1, 3, 2], [4, 4, 4], level=1.0)
    assert (estimate.low, estimate.high) == (0.0, 1.0) and estimate.value == 0.5


def test_share_does_not_jump_when_one_sample_of_many_is_hit():
    total = np.full(120, 8.0)
    hits = np.zeros(120)
    none = stats.share(hits, total)
    hits[0] = 1
    one = stats.share(hits, total)
    assert none.high > one.high > 0.6 * none.high


def test_equal_scores_in_few_clusters_give_a_wide_interval():
    estimate = stats.mean_in_unit([0.5, 0.5, 0.5], num_samples=24)
    assert estimate.low < 0.1 and estimate.high > 0.9
    estimate = stats.mean_in_unit([0.1] * 7)
    assert estimate.high > 0.5


@pytest.mark.parametrize(
    ("num", "size", "mean"),
    [(5, 8, 0.5), (12, 8, 0.05), (24, 8, 0.9), (120, 8, 0.02), (120, 16, 0.6)],
)
def test_share_covers_the_truth_in_95_percent_of_draws_also_with_few_clusters_or_at_the_edge(
    num,
    size,
    mean,
):
    rng = np.random.default_rng(num)
    truth = float(np.clip(rng.normal(mean, 0.2, 400_000), 0, 1).mean())
    covered = 0
    for _ in range(600):
        estimate = stats.share(*clusters(rng, num, size, mean))
        covered += estimate.low <= truth <= estimate.high
    assert covered / 600 >= 0.93


def test_share_is_not_needlessly_wide_in_the_middle():
    rng = np.random.default_rng(3)
    hits, total = clusters(rng, 120, 8)
    ours, plain = stats.share(hits, total), stats.mean(hits / total)
    assert (ours.high - ours.low) / (plain.high - plain.low) == pytest.approx(1, abs=0.06)


def test_paired_difference_is_the_paired_t_test_over_shared_problems():
    from scipy import stats as sps

    rng = np.random.default_rng(4)
    now, then = rng.uniform(0, 1, 40), rng.uniform(0, 1, 40)
    current = {f"p{i}": v for i, v in enumerate(now)} | {"only-now": 1.0, "nan": np.nan}
    reference = {f"p{i}": v for i, v in enumerate(then)} | {"only-then": 0.0, "nan": 0.3}
    ours = stats.paired(current, reference)
    assert ours.num_clusters == 40 and ours.df == 39
    two_sided = sps.ttest_rel(now, then).confidence_interval(0.95)
    assert ours.interval()[1:3] == pytest.approx((two_sided.low, two_sided.high))
    assert stats.paired(current, reference, scale=0.5).value == pytest.approx(
        (now - 0.5 * then).mean()
    )


def test_equal_differences_are_judged_by_an_exact_bound_not_by_a_zero_error():
    def drop(num):
        return stats.paired({str(i): 0.0 for i in range(num)}, {str(i): 1.0 for i in range(num)})

    same = stats.paired({"a": 0.3, "b": 0.4}, {"a": 0.3, "b": 0.4})
    low, high = same.interval()[1:3]
    assert low < -0.8 and high > 0.8
    assert drop(5).interval(0.95).high == pytest.approx(-1 + 2 * (1 - 0.025 ** (1 / 5)))


def test_nothing_shared_is_undefined():
    assert np.isnan(stats.paired({"a": 1.0}, {"b": 1.0}).interval().value)
    assert np.isnan(stats.paired({}, {}).interval().value)


def test_balanced_accuracy_covers_the_truth_and_keeps_width_at_the_edge():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(600):
        positive = stats.binomial(rng.binomial(40, 0.97), 40)
        negative = stats.binomial(rng.binomial(30, 0.8), 30)
        estimate = stats.balanced_accuracy(positive, negative)
        covered += estimate.low <= 0.885 <= estimate.high
    assert covered / 600 >= 0.94
    perfect = stats.balanced_accuracy(stats.binomial(20, 20), stats.binomial(20, 20))
    assert perfect.value == 1.0 and perfect.low < 0.9
    assert np.isnan(stats.balanced_accuracy(stats.binomial(3, 4), stats.UNDEFINED).value)


def test_leaving_out_one_at_a_time_gives_students_interval_of_a_mean():
    from scipy import stats as sps

    x = np.random.default_rng(6).uniform(0, 9, 15)
    groups = stats.jackknife_groups(15)
    assert (
        sorted(groups.tolist()) == list(range(15))
        and np.bincount(stats.jackknife_groups(47)).tolist() == [3] * 7 + [2] * 13
    )
    ours = stats.jackknife(x.mean(), [x[groups != g].mean() for g in range(15)], 15)
    assert (ours.low, ours.high) == pytest.approx(
        sps.t.interval(0.95, 14, x.mean(), x.std(ddof=1) / np.sqrt(15))
    )
    assert (
        np.isnan(stats.jackknife(1.0, [1.0], 1).low)
        and stats.jackknife(1.0, [1.0, np.nan], 2).value == 1.0
    )
    assert np.isnan(stats.jackknife(np.nan, [1.0, 2.0], 2).value)


def test_leaving_out_groups_covers_the_truth_of_a_nonlinear_statistic():
    rng, held = np.random.default_rng(7), 0
    for _ in range(400):
        x = rng.exponential(2.0, 100)
        groups = stats.jackknife_groups(100)
        e = stats.jackknife(
            np.log(x.mean()),
            [np.log(x[groups != g].mean()) for g in range(20)],
            100,
        )
        held += e.low <= np.log(2.0) <= e.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_difference_of_independent_estimates_covers_the_truth():
    rng, held = np.random.default_rng(8), 0
    for _ in range(600):
        e = stats.difference(
            stats.binomial(rng.binomial(40, 0.9), 40),
            stats.binomial(rng.binomial(60, 0.2), 60),
        )
        held += e.low <= 0.7 <= e.high
    assert held / 600 >= 0.94
    assert np.isnan(stats.difference(stats.UNDEFINED, stats.binomial(1, 2)).value)


def test_an_interval_is_cut_and_never_leaves_its_value_outside():
    assert stats.cut(stats.Estimate(0.2, -0.3, 1.4, 5), 0.0, 1.0)[:3] == (0.2, 0.0, 1.0)
    assert stats.cut(stats.Estimate(1.2, 0.3, 1.4, 5), 0.0, 1.0)[:3] == (1.2, 0.3, 1.2)
    assert np.isnan(stats.cut(stats.Estimate(1.0, np.nan, np.nan, 1), 0.0).low)


def test_a_ratio_of_nothing_left_is_no_certainty():
    """0.097 -> 0.000 was "-100 %, -100 % to -100 %" of forty problems."""
    before = np.full(40, 0.1)
    e = stats.ratio(np.zeros(40), before, bound=1.0)
    # Problems that were not drawn: 1 - 0.025 ** (1 / 40) of them may have anything left.
    assert e.value == e.low == 0 and e.high == pytest.approx(0.8811, abs=1e-3)
    same = stats.ratio(before, before, bound=1.0)
    assert same.low < 1 < same.high
    # Of what has no known bound, and of ratios that differ, nothing changes.
    assert stats.ratio(np.zeros(40), before)[:3] == (0, 0, 0)
    top = np.linspace(0, 0.1, 40)
    assert stats.ratio(top, before, bound=1.0) == stats.ratio(top, before)
