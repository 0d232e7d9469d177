import itertools

import numpy as np
import pytest

from ouroloop.monitors.estimators import ustatistics as u

JOINT = np.array(
    [[0.35, 0.2, 0.05, 0.02], [0.2, 0.1, 0.05, 0.03]]
)  # P(wrong or right, strategy): row 1 right


def brute_pairs(labels, right):
    """Shares of ordered pairs: both right by different strategies; any pair that differs."""
    pairs = list(itertools.permutations(range(len(labels)), 2))
    both = sum(right[i] and right[j] and labels[i] != labels[j] for i, j in pairs)
    return both / len(pairs), sum(labels[i] != labels[j] for i, j in pairs) / len(pairs)


def draw(rng, num_problems, k):
    cell = rng.choice(8, size=(num_problems, k), p=JOINT.ravel() / JOINT.sum())
    problem = np.repeat(np.arange(num_problems), k)
    return problem, (cell % 4).ravel(), (cell // 4 == 1).ravel()


def estimates(problem, strategy, right, num, k):
    full = np.full(num, float(k))
    correct = np.bincount(problem, weights=right, minlength=num)
    dcp = u.distinct_pair_share(full, correct, u.same_pairs(problem[right], strategy[right], num))
    return dcp, u.distinct_pair_share(full, full, u.same_pairs(problem, strategy, num))


def test_pair_statistics_equal_the_count_over_all_pairs():
    rng = np.random.default_rng(0)
    problem, strategy, right = draw(rng, 30, 6)
    dcp, gini = estimates(problem, strategy, right, 30, 6)
    for p in range(30):
        mine = problem == p
        assert (dcp[p], gini[p]) == pytest.approx(brute_pairs(strategy[mine], right[mine]))


@pytest.mark.parametrize("k", [4, 8, 16])
def test_dcp_and_gini_simpson_are_unbiased(k):
    right = JOINT[1] / JOINT.sum()
    pooled = JOINT.sum(axis=0) / JOINT.sum()
    truth = right.sum() ** 2 - (right**2).sum(), 1 - (pooled**2).sum()
    scores = estimates(*draw(np.random.default_rng(k), 10_000, k), 10_000, k)
    for score, true in zip(scores, truth, strict=True):
        assert abs(score.mean() - true) < 3 * score.std() / 100


def test_gini_simpson_is_the_plug_in_of_scikit_bio_corrected_by_k(skbio_alpha):
    counts = [5, 2, 1]
    labels = np.repeat(np.arange(3), counts)
    ours = u.distinct_pair_share(
        np.array([8.0]),
        np.array([8.0]),
        u.same_pairs(np.zeros(8, int), labels, 1),
    )
    assert ours[0] == pytest.approx(skbio_alpha.simpson(counts) * 8 / 7)


def test_pairs_need_two_samples_and_missing_ids_count_as_one_strategy():
    assert np.isnan(u.distinct_pair_share(np.array([1.0]), np.array([1.0]), np.array([0.0]))[0])
    assert u.same_pairs(np.zeros(3, int), np.array([-1, -1, 0]), 2).tolist() == [2.0, 0.0]


def test_pass_at_k_equals_the_count_over_all_subsets():
    for n, c, k in [(6, 2, 3), (5, 5, 2), (5, 0, 5), (8, 1, 8), (4, 3, 2)]:
        subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert u.pass_at_k(np.array([float(c)]), np.array([float(n)]), k)[0] == pytest.approx(
            np.mean([any(s) for s in subsets])
        )
    assert np.isnan(u.pass_at_k(np.array([1.0]), np.array([3.0]), 4)[0])


@pytest.mark.parametrize("num", [4, 8, 16])
def test_pass_at_k_is_unbiased(num):
    """Its expectation over every outcome is the truth, and so is the mean of 10,000 draws."""
    from scipy.stats import binom

    hits = np.arange(num + 1.0)
    for p, k in itertools.product((0.02, 0.15, 0.9), (1, 2, num // 2, num)):
        expectation = np.sum(
            binom.pmf(hits, num, p) * u.pass_at_k(hits, np.full(num + 1, float(num)), k)
        )
        assert expectation == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    score = u.pass_at_k(
        np.random.default_rng(1).binomial(num, 0.15, 10_000).astype(float),
        np.full(10_000, float(num)),
        num // 2,
    )
    assert abs(score.mean() - (1 - 0.85 ** (num // 2))) < 3 * score.std() / 100


def test_g_follows_grassbergers_recursion():
    expected = [-np.euler_gamma - np.log(2), 2 - np.euler_gamma - np.log(2)]
    for n in range(2, 40):
        expected.append(expected[-1] if n % 2 == 0 else expected[-1] + 2 / n)
    assert u.grassberger_g(np.arange(1.0, 41.0)) == pytest.approx(expected)
    assert u.grassberger_g(np.array([0.0]))[0] == 0.0


def test_entropy_of_few_strategies_is_nearly_unbiased_where_the_plug_in_is_not(skbio_alpha):
    rng, p = np.random.default_rng(2), np.array([0.45, 0.3, 0.17, 0.08])
    truth = -(p * np.log(p)).sum()
    draws = rng.multinomial(60, p, size=4_000)
    ours = np.array([u.entropy(d.astype(float)) for d in draws])
    plug_in = np.array([skbio_alpha.shannon(d, base=np.e) for d in draws])
    assert abs(ours.mean() - truth) < 0.01
    assert plug_in.mean() < truth - 0.02


def test_entropy_of_16_samples_of_a_zipf_50_reads_as_the_documented_bias_says():
    p = 1 / np.arange(1, 51)
    p /= p.sum()
    draws = np.random.default_rng(3).multinomial(16, p, size=3_000)
    assert np.mean([u.entropy(d.astype(float)) for d in draws]) == pytest.approx(2.87, abs=0.03)
    assert -(p * np.log(p)).sum() == pytest.approx(3.20, abs=0.01)


def test_entropy_is_zero_for_one_strategy_and_undefined_for_none():
    assert u.entropy(np.array([40.0])) == pytest.approx(0, abs=1e-3)
    assert np.isnan(u.entropy(np.array([])))


def test_leaving_one_problem_out_equals_recomputing_without_it():
    rng = np.random.default_rng(4)
    problem, strategy, _ = draw(rng, 12, 5)
    keys, count = np.unique(problem * 4 + strategy, return_counts=True)
    fast = u.entropy_without_each(keys // 4, keys % 4, count.astype(float))
    for p in range(12):
        assert fast[p] == pytest.approx(
            u.entropy(np.bincount(strategy[problem != p]).astype(float)),
            abs=1e-12,
        )


def test_collision_equals_the_count_over_all_pairs_of_different_problems():
    rng = np.random.default_rng(5)
    problem, answer = np.repeat(np.arange(6), 4), rng.integers(0, 3, 24)
    keys, count = np.unique(problem * 3 + answer, return_counts=True)
    ours = u.collision(keys // 3, keys % 3, count / 4, 6)
    hits = [
        answer[i] == answer[j] for i in range(24) for j in range(24) if problem[i] != problem[j]
    ]
    assert ours.mean() == pytest.approx(np.mean(hits))
    assert np.isnan(u.collision(np.zeros(1, int), np.zeros(1, int), np.ones(1), 1)).all()


@pytest.mark.parametrize("size", [3, 6])
def test_the_variance_of_distinct_codes_is_the_jackknife_sample_by_sample(size):
    """Of 6 samples, each left out in turn; of as many as are counted, one less is counted."""
    rng = np.random.default_rng(4)
    code_PK, counts_PK = rng.integers(-1, 3, (20, 6)), rng.random((20, 6)) < 0.8
    found = u.distinct_variance(code_PK, counts_PK, np.full(20, 6), size)

    def share(kept):
        each = [
            len({code for code, counts in block if counts})
            for block in itertools.combinations(kept, min(size, len(kept)))
        ]
        return np.mean(each) / size

    for codes, counts, value in zip(code_PK, counts_PK, found, strict=True):
        rows = list(zip(codes, counts, strict=True))
        without = [share(rows[:i] + rows[i + 1 :]) for i in range(6)]
        assert value == pytest.approx(5 * np.var(without))
    short = u.distinct_variance(code_PK, counts_PK, np.array([6] * 19 + [2]), size)
    assert np.isnan(short[-1])
