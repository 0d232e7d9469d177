"""Ways per problem and clusters per prompt: their values, and WATCH's bets on graded scores."""

import dataclasses
import itertools

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import blocks, guarded, patterns, stakes, tiers
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.responses import Grid
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.stakes import Stream
from ouroloop.monitors.decision.tables import Pair, Table, pair
from ouroloop.monitors.metrics.ways import Ways, mean_ways
from ouroloop.monitors.names import Action, Tier

COLUMNS = np.arange(4)[None, None]


def table(right, strategy, cluster=None):
    right_PK, strategy_PK = np.array(right, dtype=bool), np.array(strategy)
    grids = {} if cluster is None else {Grid.CLUSTER: np.array(cluster)}
    names = tuple(f"p{i}" for i in range(len(right_PK)))
    there = np.ones(right_PK.shape, dtype=bool)
    return Table(names, there, right_PK, strategy_PK, strategy_PK, grids=grids)


def test_a_blocks_ways_are_the_different_strategies_of_its_right_samples():
    rows = table(
        [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
        # Wrong ways do not count; right ones without a name are one way together.
        [[0, 0, 2, 3], [-1, -1, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]],
    )
    assert (4 * blocks.ways(rows, COLUMNS)).ravel().tolist() == [2, 1, 0, 4]


def test_a_blocks_clusters_are_counted_whoever_is_right():
    rows = table([[1, 0, 0, 0]] * 2, [[-1] * 4] * 2, [[5, 5, 2, -1], [3, 3, 3, 3]])
    assert (4 * patterns.kinds(rows, COLUMNS)).ravel().tolist() == [3, 1]


def test_the_reading_is_the_mean_over_all_blocks_and_so_is_the_guards_score_nearly():
    rows = samples(np.random.default_rng(3), 30, 6, shares=(0.5, 0.3, 0.15, 0.05), accuracy=0.6)
    found, _ = pair(rows, rows)
    every = np.array(list(itertools.combinations(range(6), 4)))[None]
    exact = 4 * blocks.problem_means(blocks.ways(found, every))
    value, low, high, num = mean_ways(rows, 4)
    assert value == pytest.approx(exact.mean()) and low < value < high and num == 30
    cut = 4 * blocks.block_scores(found, 4, blocks.ways)
    assert np.nanmean(cut) == pytest.approx(exact.mean(), abs=0.06)


def test_a_guard_shows_the_readings_of_its_number():
    first = RoundView(0, samples(np.random.default_rng(0), 40, 32))
    second = RoundView(1, samples(np.random.default_rng(1), 40, 8))
    read = {}
    for view in (first, second):
        readings = Ways(main_family="main").measure(view, first)
        read[view.round] = [r for r in readings if r.estimand.id == "ways/mean@8:main"]
    rule = DecisionRule("main")
    decision = rule.decide(second, first, read[1], baseline_readings={0: read[0]})
    (guard,) = [g for g in decision.guards if g.quantity == "ways"]
    assert (guard.before, guard.after) == (read[0][0].value, read[1][0].value)
    assert guard.name == "ways per problem in 8 samples" and 1 < guard.after < 4


def graded(mean_P, rng, sd, num_baseline, lost=0.0):
    """A round of scores that vary by `sd`, beside a baseline of so many blocks a problem."""

    def drawn(num, mean_P):
        return np.clip(mean_P[:, None] + sd * rng.standard_normal((len(mean_P), num)), 0, 1)

    baseline_PM = drawn(num_baseline, mean_P)
    se = sd / np.sqrt(baseline_PM.size)
    now_PRM = drawn(1, (1 - lost) * mean_P)[:, None]
    known = {"relative": True, "num_blocks": baseline_PM.size}
    return Stream(baseline_PM.mean(axis=1), now_PRM, se, 0.10, **known)


@pytest.mark.parametrize("num_problems", [20, 120])
def test_a_normal_bet_gains_nothing_by_expectation_on_what_is_tolerated(num_problems):
    """Enumeration is for HALT's; of these the mean over runs is at most one, but for its noise."""
    rng = np.random.default_rng(0)
    mean_P = rng.uniform(0.3, 0.7, num_problems)
    streams = [graded(mean_P, rng, 0.1, 500, lost=0.025) for _ in range(4000)]
    # Beside a baseline that is all but known: no cell but the first matters.
    growth_NB = np.array([stakes.normal_factors(s, 0.25)[0] for s in streams])
    for bet in (0, 1):
        won_N = np.exp(growth_NB[:, bet])
        assert won_N.mean() < 1 + 3 * won_N.std() / np.sqrt(len(won_N))
    # The larger bets win so seldom that their mean says nothing; how often they win a lot does.
    for bet in (2, 3):
        assert (growth_NB[:, bet] >= np.log(100)).mean() <= 0.012


def test_a_score_that_hardly_varies_is_watched_more_sharply_than_an_exact_bet_can():
    rng = np.random.default_rng(1)
    mean_P = rng.uniform(0.2, 0.5, 120)
    stream = graded(mean_P, rng, 0.08, 4, lost=0.08)
    assert stream.is_nearly_normal
    exact = stakes.loss_factors(stream, 0.25, proven=False)
    watch = tiers.growth(stream, Tier.WATCH, 0.25)
    assert watch[0].max() > 2 * exact[0].max() > 0
    assert np.array_equal(tiers.growth(stream, Tier.HALT, 0.25), stakes.loss_factors(stream, 1.0))


def test_of_few_problems_exact_bets_see_a_total_loss_sooner():
    for num, exactly in ((10, True), (40, False)):
        stream = graded(np.full(num, 0.5), np.random.default_rng(3), 0.1, 4, lost=0.9)
        exact = stakes.loss_factors(stream, 0.25, proven=False)
        watch = tiers.growth(stream, Tier.WATCH, 0.25)
        assert np.array_equal(watch, exact) is exactly
        assert watch[0].max() > 2.5


def test_scores_of_0_and_1_are_bet_on_exactly_by_both_tiers():
    rng = np.random.default_rng(2)
    stream = graded(np.full(50, 0.5), rng, 0.1, 4)
    stream = dataclasses.replace(stream, block_PRM=np.round(stream.block_PRM))
    exact = stakes.loss_factors(stream, 0.25, proven=False)
    assert np.array_equal(tiers.growth(stream, Tier.WATCH, 0.25), exact)


def test_where_a_score_is_seldom_above_0_none_is_no_proof_of_a_loss():
    """Every problem lost the little that it had, by exactly as much: no spread is seen at all."""
    baseline_P = np.full(100, 0.01)
    # 400 blocks, of which four scored 1: one is expected in a round.
    se = np.sqrt(0.01 * 0.99 / 400)
    none = Stream(baseline_P, np.full((100, 1, 1), 1e-9), se, 0.0, num_blocks=400)
    assert none.is_nearly_normal
    assert stakes.normal_factors(none, 0.25).max() < 1.5


def test_nothing_is_bet_on_a_round_without_a_block():
    stream = Stream(np.full(3, 0.5), np.full((3, 1, 0), np.nan), 0.01, 0.1, num_blocks=12)
    assert not stakes.normal_factors(stream, 0.25).any()


def test_a_narrowing_that_more_right_answers_hide_from_pairs_is_called_by_ways():
    rule = DecisionRule("main")
    first = RoundView(0, samples(np.random.default_rng(0), 120, 32, accuracy=0.6))
    narrow = (0.75, 0.13, 0.09, 0.03)
    calls, drivers, history = [], set(), []
    for number in range(1, 6):
        rng = np.random.default_rng(number)
        probe = samples(rng, 120, 8, accuracy=0.72, shares=narrow)
        decision = rule.decide(RoundView(number, probe), first, (), history)
        history.append(dataclasses.replace(decision, carried_out=False))
        calls.append(decision.action)
        drivers.add(decision.evidence[Tier.WATCH].driver)
    assert calls[-1] is not Action.CONTINUE and StreamId("ways") in drivers
    pairs = [g for g in decision.guards if g.quantity == "diversity"]
    ways = [g for g in decision.guards if g.quantity == "ways"]
    assert ways[0].loss_in_tolerances > pairs[0].loss_in_tolerances


def test_a_block_is_as_large_as_half_of_the_problems_have_it():
    def there(*nums):
        there_PK = np.arange(16) < np.array(nums)[:, None]
        right_PK, none_PK = there_PK.copy(), np.where(there_PK, 0, -1)
        return Table(tuple("abcde"), there_PK, right_PK, none_PK, none_PK)

    wide = there(16, 16, 16, 16, 16)
    for nums, size in (
        ((4, 4, 4, 4, 16), 4),
        ((8, 8, 8, 2, 1), 8),
        ((16,) * 5, 8),
        ((1,) * 5, 2),
        # Problems that the round lacks have no say.
        ((0, 0, 0, 6, 6), 6),
    ):
        assert blocks.usual_block(Pair(wide, there(*nums))) == size, nums
    assert blocks.largest_block(Pair(wide, there(16, 16, 16, 16, 1)), 0.9) == 1


def test_a_loss_of_ways_is_seen_beside_a_baseline_of_as_many_samples_as_a_round():
    """Of one block's variance nothing is known; taken as the most it can be, it hid this."""
    many, few = (0.4, 0.3, 0.2, 0.1), (0.65, 0.35, 0.0, 0.0)
    first = RoundView(0, samples(np.random.default_rng(0), 60, 8, shares=many, accuracy=0.6))
    for shares, action in ((many, Action.CONTINUE), (few, Action.REINJECT)):
        now = samples(np.random.default_rng(1), 60, 8, shares=shares, accuracy=0.6)
        decision = DecisionRule("main").decide(RoundView(1, now), first)
        log_e = decision.evidence[Tier.WATCH].by_quantity[StreamId("ways", 0)]
        assert decision.action == action and (log_e > 3) == (shares is few)


def test_one_blocks_variance_is_that_of_its_own_score_and_no_smaller_than_it_is():
    """Right ones only for ways, those without a cluster as a cluster for kinds."""
    shares, rng = np.array([0.4, 0.3, 0.2, 0.1]), np.random.default_rng(0)
    strategy, right = rng.choice(4, (4000, 10), p=shares), rng.random((4000, 10)) < 0.7
    rows = table(right, strategy, strategy - 1)
    for score, variance in (
        (blocks.ways, blocks.ways_variance),
        (patterns.kinds, patterns.kinds_variance),
    ):
        for size in (8, 10):
            mean_P = blocks.problem_means(blocks.block_scores(rows, size, score))
            # The cuts of ten samples into eight are a few of all 45, and vary a little more.
            assert 1.0 < variance(rows, size).mean() / mean_P.var() < 2.2
    assert np.isnan(blocks.ways_variance(rows, 11)).all()


def test_without_strategies_there_are_no_ways_to_guard():
    blind = samples(np.random.default_rng(0), 20, 8)
    blind = dataclasses.replace(blind, strategy=np.full(len(blind), None))
    rule = DecisionRule("main")
    decision = rule.decide(RoundView(1, blind), RoundView(0, blind))
    assert {e.quantity: e.reason for e in decision.unmeasured}["ways"] == guarded.NO_NAMES
