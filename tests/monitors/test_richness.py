import numpy as np
import pytest
from simulated_panel import SHARES, samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.estimators.rarefaction import chao1, counted, coverage
from ouroloop.monitors.estimators.ustatistics import entropy
from ouroloop.monitors.metrics.diversity import Diversity, hill_1, hill_2
from ouroloop.monitors.metrics.richness import Richness

ZIPF = tuple(1 / np.arange(1, 51))
NAMES = tuple(f"s{i}" for i in range(50))


def zipf(seed, num=60, num_samples=4, kinds=50, **model):
    chosen = {"shares": ZIPF[:kinds], "strategies": NAMES[:kinds], "tail": 0.0}
    return samples(np.random.default_rng(seed), num, num_samples, **{**chosen, **model})


def read(now, then=None):
    return {
        r.name: r
        for r in Richness().measure(
            RoundView(int(then is not None), now),
            None if then is None else RoundView(0, then),
        )
    }


def test_readings_are_those_of_the_pooled_counts_of_right_samples(skbio_alpha):
    probe = zipf(0)
    count = np.unique(probe.strategy[probe.correct == 1], return_counts=True)[1]
    readings = read(probe)
    c = counted(count.astype(float))
    assert readings["richness/sample_coverage@4"].value == pytest.approx(coverage(c))
    assert readings["richness/lower_bound@4"].value == pytest.approx(chao1(c))
    assert readings["richness/at_equal_coverage@4"].value == len(count) == skbio_alpha.sobs(count)
    assert readings["richness/retained@4"].reason == "round 0 is the reference"


def test_the_same_strategy_in_another_slice_or_family_is_another_kind():
    one, two = (
        samples(np.random.default_rng(0), 400, tail=0.0),
        samples(np.random.default_rng(0), 400, tail=0.5),
    )
    assert read(one)["richness/lower_bound@8"].value == 4
    assert read(two)["richness/lower_bound@8"].value == 8


@pytest.mark.slow
def test_fewer_right_samples_alone_do_not_look_like_lost_strategies_but_lost_strategies_do():
    gaps, raw, lost = [], [], []
    for seed in range(60):
        then, weaker = (
            zipf(seed, spread=0.0, accuracy=0.8),
            zipf(900 + seed, spread=0.0, accuracy=0.2),
        )
        gaps.append(read(weaker, then)["richness/retained@4"].value)
        lost.append(read(zipf(900 + seed, kinds=15), then)["richness/retained@4"].value)
        raw.append(
            len(set(weaker.strategy[weaker.correct == 1]))
            / len(set(then.strategy[then.correct == 1]))
        )
    assert np.mean(raw) < 0.75
    assert np.mean(gaps) == pytest.approx(1, abs=0.06)
    assert np.mean(lost) < 0.6


@pytest.mark.slow
def test_intervals_hold_the_truth_at_least_as_often_as_they_say():
    share = np.array(ZIPF) / sum(ZIPF)
    kept = seen = 0
    for seed in range(150):
        now = zipf(1_000 + seed)
        readings = read(now, zipf(seed))
        kept += readings["richness/retained@4"].low <= 1 <= readings["richness/retained@4"].high
        truth = sum(share[int(s[1:])] for s in set(now.strategy[now.correct == 1]))
        seen += (
            readings["richness/sample_coverage@4"].low
            <= truth
            <= readings["richness/sample_coverage@4"].high
        )
    assert kept >= 140 and seen >= 138


def test_effective_numbers_read_the_models_own_and_their_intervals_hold_them(skbio_alpha):
    p = np.array(SHARES) / sum(SHARES)
    truths = np.exp(skbio_alpha.shannon(p, base=np.e)), skbio_alpha.inv_simpson(p)
    held = np.zeros(2)
    for seed in range(200):
        probe = samples(np.random.default_rng(seed), 30, 8)
        held += [
            e.low <= t <= e.high
            for e, t in zip((hill_1(probe), hill_2(probe)), truths, strict=True)
        ]
    assert (held >= 182).all(), held


def test_effective_numbers_are_those_of_all_pairs_and_of_grassberger():
    probe = samples(np.random.default_rng(3), 5, 4)
    pairs = [(a, b) for a in range(20) for b in range(20) if probe.problem[a] != probe.problem[b]]
    same = np.mean([probe.strategy[a] == probe.strategy[b] for a, b in pairs])
    readings = {r.name: r for r in Diversity().measure(RoundView(0, probe), None)}
    assert readings["diversity/hill_2"].value == pytest.approx(1 / same)
    count = np.unique(probe.strategy, return_counts=True)[1].astype(float)
    assert readings["diversity/hill_1"].value == pytest.approx(np.exp(entropy(count)))
    within = readings["diversity/hill_2"].details["within"]["value"]
    assert within == pytest.approx(1 / (1 - readings["diversity/gini_simpson_all"].value))


@pytest.mark.slow
def test_effective_number_does_not_fall_because_the_samples_of_a_problem_are_alike():
    """Each problem has one strategy of its own.

    Pooled pairs would count its samples as repeats of the pool.
    """
    rng, values = np.random.default_rng(4), []
    for _ in range(400):
        probe = samples(rng, 20, 8)
        own = rng.choice(np.array(["a", "b", "c", "d"], dtype=object), 20)
        values.append(
            1 / hill_2(type(probe)(**{**probe.__dict__, "strategy": np.repeat(own, 8)})).value
        )
    assert np.mean(values) == pytest.approx(0.25, abs=3 * np.std(values) / 20)
