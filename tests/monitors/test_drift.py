import dataclasses

import numpy as np
import pytest
from simulated_panel import SHARES, pool, samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.metrics.drift import Drift, fresh_share_at, neutral, spread, strategy_pairs

P0 = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])


def resampled(rng, num, rounds, fresh=0.0, runs=20_000, start=P0):
    """Wright-Fisher: every round's shares are those of `num` draws from the last round's.

    They are mixed with the start's.
    """
    p = np.tile(start, (runs, 1))
    for _ in range(rounds):
        p = rng.multinomial(num, (1 - fresh) * p + fresh * start) / num
    return p


@pytest.mark.parametrize(("num", "rounds"), [(10, 3), (20, 10), (50, 40)])
def test_diversity_decays_as_one_less_one_over_n_per_round_within_one_percent(num, rounds):
    left = (1 - (resampled(np.random.default_rng(num), num, rounds) ** 2).sum(axis=1)).mean() / (
        1 - (P0**2).sum()
    )
    law = (1 - 1 / num) ** rounds
    assert left == pytest.approx(law, rel=0.01)
    offset, slope = neutral(rounds, num)
    assert 1 - (offset + slope * (P0**2).sum()) == pytest.approx(law * (1 - (P0**2).sum()))


@pytest.mark.parametrize(("num", "rounds", "fresh"), [(20, 10, 0.1), (50, 5, 0.3), (10, 30, 0.5)])
def test_with_fresh_data_the_expectation_is_that_of_the_simulated_loops(num, rounds, fresh):
    observed = (resampled(np.random.default_rng(rounds), num, rounds, fresh) ** 2).sum(axis=1)
    offset, slope = neutral(rounds, num, fresh)
    assert abs(offset + slope * (P0**2).sum() - observed.mean()) < 4 * observed.std() / np.sqrt(
        len(observed)
    )


def test_the_spread_of_chance_is_that_of_one_resampling():
    observed = (resampled(np.random.default_rng(1), 500, 1, start=np.array(SHARES)) ** 2).sum(
        axis=1
    )
    probe = samples(np.random.default_rng(2), 3_000)
    assert np.sqrt(spread(probe) / 500) == pytest.approx(observed.std(), rel=0.05)


def loop(seed, rounds=3, num=400, fresh=0.0, power=1.0):
    """A reading after `rounds` of resampling, sharpened by `power` each."""
    rng = np.random.default_rng(seed)
    start = np.array(SHARES) / sum(SHARES)
    p = start.copy()
    for _ in range(rounds):
        q = ((1 - fresh) * p + fresh * start) ** power
        p = rng.multinomial(num, q / q.sum()) / num
    trained = dataclasses.replace(pool(rng, 250, 4), kept=np.arange(1_000) < num)
    now, then = samples(rng, shares=tuple(p)), samples(rng)
    return Drift(fresh_share=fresh).measure(
        RoundView(rounds, now, pool=trained),
        RoundView(0, then),
    )[0]


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [0.0, 0.3])
def test_a_neutral_loop_reads_zero_and_its_interval_holds_it(fresh):
    readings = [loop(seed, 1 + seed % 5, fresh=fresh) for seed in range(120)]
    assert sum(r.low <= 0 <= r.high for r in readings) >= 108
    values = np.array([r.value for r in readings])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(120)


def test_sharpening_is_more_than_chance():
    readings = [loop(seed, power=1.3) for seed in range(20)]
    assert sum(r.low > 0 for r in readings) >= 19
    assert all(r.details["num_training"] == 400 and r.details["rounds"] == 3 for r in readings)


def test_balanced_strategies_stay_stable_when_the_fresh_share_exceeds_one_less_the_temperature():
    """Expected shares under sampling at temperature T and fresh share.

    A small lead grows below fresh = 1 - T, shrinks above.
    """
    for temperature in (0.6, 0.8, 0.9):
        for offset in (-0.03, 0.03):
            p, fresh = 0.5 + 1e-4, fresh_share_at(temperature) + offset
            for _ in range(2_000):
                hot = p ** (1 / temperature) / (
                    p ** (1 / temperature) + (1 - p) ** (1 / temperature)
                )
                p = (1 - fresh) * hot + fresh * 0.5
            assert (p > 0.51) == (offset < 0)


def test_strategy_pairs_are_the_pairs_of_different_problems():
    probe = samples(np.random.default_rng(4), 6, 3)
    pairs = [
        probe.strategy[a] == probe.strategy[b]
        for a in range(18)
        for b in range(18)
        if probe.problem[a] != probe.problem[b]
    ]
    assert np.mean(list(strategy_pairs(probe).values())) == pytest.approx(np.mean(pairs))
