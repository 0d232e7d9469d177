"""Against the published output of R's iNEXT for its `spider` data.

Brute force over subsamples, scikit-bio, and known models.
"""

import itertools

import numpy as np
import pytest

from ouroloop.monitors.estimators import rarefaction as r

# Chao & Jost 2012 (Ecology 93), the hemlock canopy spiders; `spider` in R's iNEXT.
GIRDLED = np.array([46, 22, 17, 15, 15, 9, 8, 6, 6, 4] + [2] * 4 + [1] * 12, dtype=float)
LOGGED = np.array(
    [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5] + [4] * 3 + [3] * 4 + [2] * 4 + [1] * 14,
    dtype=float,
)
ZIPF = 1 / np.arange(1, 51) / np.sum(1 / np.arange(1, 51))


def test_the_spider_data_are_the_published_ones():
    girdled, logged = r.counted(GIRDLED), r.counted(LOGGED)
    assert (girdled.n, girdled.seen, girdled.f1, girdled.f2) == (168, 26, 12, 4)
    assert (logged.n, logged.seen, logged.f1, logged.f2) == (252, 37, 14, 4)


@pytest.mark.parametrize(
    ("size", "kinds", "coverage"),
    [
        (1, 1.000, 0.122),
        (10, 6.479, 0.597),
        (19, 9.450, 0.738),
        (168, 26.000, 0.929),
        (327, 34.396, 0.962),
        (336, 34.731, 0.964),
    ],
)
def test_rarefaction_and_extrapolation_equal_the_output_printed_in_inexts_introduction(
    size,
    kinds,
    coverage,
):
    girdled = r.counted(GIRDLED)
    assert r.richness(girdled, size) == pytest.approx(kinds, abs=6e-4)
    assert r.coverage(girdled, size) == pytest.approx(coverage, abs=6e-4)


def test_lower_bounds_and_coverages_of_both_sites_equal_inexts():
    girdled, logged = r.counted(GIRDLED), r.counted(LOGGED)
    assert (r.chao1(girdled), r.chao1(logged)) == pytest.approx((43.892857, 61.402778), abs=1e-6)
    assert (r.coverage(girdled), r.coverage(logged)) == pytest.approx((0.9289, 0.9446), abs=5e-5)


def test_sizes_at_a_coverage_invert_the_coverage_and_both_sites_are_compared_at_the_same_one():
    girdled, logged = r.counted(GIRDLED), r.counted(LOGGED)
    for target in (0.3, 0.7, 0.9289, 0.95):
        assert r.coverage(girdled, r.size_at(girdled, target)) == pytest.approx(target, abs=1e-5)
    both = r.at_equal_coverage(girdled, logged)
    assert both.coverage == pytest.approx(0.964, abs=6e-4) and both.size_now == pytest.approx(
        336,
        abs=0.1,
    )
    assert both.then == pytest.approx(r.richness(logged, both.size_then))
    assert r.coverage(logged, both.size_then) == pytest.approx(both.coverage, abs=1e-5)


def test_rarefaction_equals_the_mean_over_all_subsamples():
    counts = np.array([3.0, 2.0, 1.0, 1.0])
    labels = np.repeat(np.arange(4), counts.astype(int))
    c = r.counted(counts)
    for size in range(1, 7):
        subsets = list(itertools.combinations(labels, size))
        assert r.richness(c, size) == pytest.approx(np.mean([len(set(s)) for s in subsets]))
    for size in range(
        1,
        7,
    ):  # expected coverage: the next sample drawn from the rest is of a kind already seen
        hits = [
            labels[i] in [labels[j] for j in chosen]
            for chosen in itertools.combinations(range(7), size)
            for i in range(7)
            if i not in chosen
        ]
        assert r.coverage(c, size) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize(
    "counts",
    [GIRDLED, LOGGED, np.array([5.0, 1.0, 1.0]), np.array([4.0, 2.0])],
)
def test_chao1_is_scikit_bios_apart_from_its_factor(counts, skbio_alpha):
    c = r.counted(counts)
    if c.f2 > 0 and c.f1 > 0:
        assert c.seen + (r.chao1(c) - c.seen) * c.n / (c.n - 1) == pytest.approx(
            skbio_alpha.chao1(counts.astype(int), bias_corrected=False)
        )
    # without kinds seen twice scikit-bio's corrected form is the same, again without (n - 1) / n
    else:
        assert c.seen + (r.chao1(c) - c.seen) * c.n / (c.n - 1) == pytest.approx(
            skbio_alpha.chao1(counts.astype(int))
        )


def test_coverage_is_goods_with_a_smaller_miss(skbio_alpha):
    good = skbio_alpha.goods_coverage(GIRDLED.astype(int))
    assert good < r.coverage(r.counted(GIRDLED)) < good + 0.001


@pytest.mark.parametrize(("num", "within"), [(16, 0.015), (64, 0.01)])
def test_coverage_of_a_zipf_50_is_the_truth(num, within):
    rng = np.random.default_rng(num)
    draws = rng.multinomial(num, ZIPF, size=4_000).astype(float)
    ours = np.mean([r.coverage(r.counted(d)) for d in draws])
    truth = np.mean([(ZIPF * (d > 0)).sum() for d in draws])
    assert ours == pytest.approx(truth, abs=within)


def test_the_lower_bound_on_a_zipf_50_reads_as_documented():
    draws = np.random.default_rng(1).multinomial(64, ZIPF, size=4_000)
    ours = np.array([r.chao1(r.counted(d.astype(float))) for d in draws])
    assert (ours.mean(), np.median(ours)) == pytest.approx((48.8, 42.6), abs=1.0)


def test_equal_coverage_sees_no_difference_where_only_the_sizes_differ_and_raw_counts_do():
    rng = np.random.default_rng(2)
    gaps, raw = [], []
    for _ in range(400):
        small, large = (r.counted(rng.multinomial(n, ZIPF).astype(float)) for n in (60, 240))
        both = r.at_equal_coverage(small, large)
        gaps.append(both.now / both.then)
        raw.append(small.seen / large.seen)
    assert np.mean(raw) < 0.65
    assert np.mean(gaps) == pytest.approx(1, abs=0.03)


def test_edges_are_defined_or_nan():
    nothing, one, full = (r.counted(np.array(x, dtype=float)) for x in ([], [1], [5, 7, 9]))
    assert all(np.isnan(f(nothing)) for f in (r.chao1, r.coverage)) and np.isnan(
        r.size_at(nothing, 0.5)
    )
    assert r.chao1(one) == 1.0 and r.richness(one, 1) == 1.0 and r.coverage(one) == 1.0
    assert (r.chao1(full), r.coverage(full), r.richness(full, 42)) == (3.0, 1.0, 3.0)
    assert r.size_at(full, 1.0) == 21
    singles = r.counted(np.ones(6))
    assert 0 <= r.coverage(singles) < 0.5 and r.chao1(singles) > 6
    both = r.at_equal_coverage(full, singles)
    assert 0 < both.coverage < 1 and both.now <= 3
