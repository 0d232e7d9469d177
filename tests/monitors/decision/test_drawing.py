"""Further draws of a round: the promise by enumeration, when they are called for, what they bet."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.base import RoundView, Texts
from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream as SimulatedRun
from ouroloop.monitors.decision import drawing, evidence, stakes, tiers
from ouroloop.monitors.decision.drawing import BEGUN, Nearness
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.stakes import Stream
from ouroloop.monitors.names import Tier

A, B = StreamId("a"), StreamId("b")


@pytest.mark.parametrize("wanted", [lambda first: first > 0, lambda first: first < 0, bool])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_no_bet_gains_by_a_further_draw_that_depends_on_the_first(wanted, share):
    # Three unlike problems, exactly at the tolerated loss; every outcome of both draws is counted.
    baseline_P, tolerance = np.array([0.9, 0.5, 0.2]), 0.08
    now_P = baseline_P - share * tolerance

    def growths():
        for outcome in itertools.product((0.0, 1.0), repeat=3):
            block_PRM = np.array(outcome).reshape(3, 1, 1)
            stream = Stream(baseline_P, block_PRM, 0.0, tolerance)
            chance = np.prod(np.where(np.array(outcome) == 1, now_P, 1 - now_P))
            yield chance, stakes.loss_factors(stream, share, np.zeros(1))[0]

    total_B = np.zeros(len(stakes.BETS_B))
    for chance, first_B in growths():
        # The rule sees all bets; one of them is enough to depend on.
        if wanted(first_B[-1]):
            further_B = sum(c * np.exp(more_B) for c, more_B in growths())
        else:
            further_B = np.ones(len(first_B))
        total_B += chance * np.exp(first_B) * further_B
    assert (total_B <= 1 + 1e-9).all()
    # A bet that could not lose or win would pass as well.
    assert total_B.max() > 0.5


def test_bets_of_draws_add_up_on_the_streams_of_the_first():
    draws = [
        {A: (1.0, -2.0), B: (0.5, 0.5)},
        {A: (0.25, 1.0)},
        {A: (1.0, 1.0), StreamId("c"): (9.0,)},
    ]
    assert drawing.added(draws) == {A: (2.25, 0.0), B: (0.5, 0.5)}


def test_what_has_begun_is_the_sum_over_beginnings_whatever_the_horizon():
    # One cell, one bet that doubles every round: 2 + 4 + 8 after three rounds.
    rounds = [{A: (math.log(2),)}] * 3
    for horizon in (3, 20, 100):
        weight = evidence.weigh(rounds, horizon, log_pay_C=np.zeros(1))
        assert drawing.begun(weight, horizon, 3) == pytest.approx(14)
    late = evidence.weigh(rounds, 2, log_pay_C=np.zeros(1))
    assert drawing.begun(late, 2, 3) == pytest.approx(12)  # no beginning after the plan


def test_evidence_beyond_what_a_float_holds_is_near_a_limit_and_no_error():
    """3,000 right samples of which none is left bring more than exp(709)."""
    weight = evidence.Weight(800.0, {A: 800.0}, share={A: 1.0})
    assert BEGUN < drawing.begun(weight, 20, 1) < math.inf


def test_a_further_draw_is_called_for_near_a_limit_and_not_beyond_halts():
    assert Nearness(BEGUN, halts=False).is_near
    assert not Nearness(BEGUN - 0.01, halts=False).is_near
    assert not Nearness(100.0, halts=True).is_near


def test_texts_that_are_scored_once_a_round_are_in_the_first_draw_alone():
    rows = samples(np.random.default_rng(0))
    ones = np.ones(2)
    texts = Texts(np.array(["s", "t"], dtype=object), ones, ones, ones)
    view = RoundView(3, rows, texts=texts, draws=(rows, rows))
    first, second = view.by_draw()
    assert first.texts is texts and second.texts is None and second.round == 3
    assert view.by_draw()[0].draws == () and replace(view, draws=()).by_draw() == (
        replace(view, draws=()),
    )


def test_the_rule_weighs_every_draw_and_shows_the_numbers_of_all():
    rng = np.random.default_rng(1)
    baseline = RoundView(0, samples(rng, accuracy=0.7, num_samples=32))
    draws = [samples(rng, accuracy=0.55, num_samples=8) for _ in range(3)]
    rule = DecisionRule("main", rounds=20)
    one = rule.decide(RoundView(1, draws[0]), baseline)
    three = rule.decide(RoundView(1, draws[0], draws=tuple(draws)), baseline)
    assert one.factors is not None and three.factors is not None
    alone = [rule.decide(RoundView(1, draw), baseline).factors.watch for draw in draws]
    for stream, growth in three.factors.watch.items():
        each = zip(*(bets[stream] for bets in alone), strict=True)
        assert growth == pytest.approx([sum(bets) for bets in each])
    assert three.evidence[Tier.HALT].log_e > one.evidence[Tier.HALT].log_e
    # The interval of a change is that of all draws.
    wide, narrow = (
        next(g for g in found.guards if g.quantity == "accuracy") for found in (one, three)
    )
    assert narrow.high - narrow.low < wide.high - wide.low
    assert rule.nearness(RoundView(1, draws[0]), [baseline]).begun > BEGUN


def test_a_simulated_collapse_is_drawn_more_often_than_a_calm_run():
    rule, num_draws = DecisionRule("main", draws=4), {}
    for name in ("drift, fast", "improving"):
        stream = SimulatedRun(REGIMES[name], 3, 40, 8, 64, 8)
        watcher = Watcher(rule)
        for a_round in stream.rounds():
            if a_round.number:
                watcher.weigh(a_round.tables, a_round.again)
        num_draws[name] = watcher.num_draws
        assert all(len(b) == tiers.NUM_BETS for b in watcher.rounds_[Tier.WATCH][-1].values())
    assert 8 <= num_draws["improving"] < num_draws["drift, fast"] <= 32
