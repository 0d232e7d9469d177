"""Retained probability of fixed answers: the estimate, the reading and the guarded quantity."""

import dataclasses

import numpy as np
import pytest
from simulated_panel import objects, samples

from ouroloop.monitors.base import RoundView, Traces
from ouroloop.monitors.decision import guarded, stakes
from ouroloop.monitors.decision.responses import with_responses
from ouroloop.monitors.decision.retained import retained
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import tables_of
from ouroloop.monitors.estimators.retained import kept
from ouroloop.monitors.metrics.retained import Retained
from ouroloop.monitors.names import Action, Tier

NUM_PROBLEMS, PER_GROUP, NUM_TOKENS = 60, 4, 12


def traces(logprob_SA, num_problems=NUM_PROBLEMS):
    """Each problem with strategies s0, s1, ..., answers of each with these log-probabilities."""
    rows = [
        (f"main-{p:04d}", f"s{s}", f"{s} {a}", x)
        for p in range(num_problems)
        for s, each in enumerate(logprob_SA)
        for a, x in enumerate(each)
    ]
    num = len(rows)
    return Traces(
        problem=objects(r[0] for r in rows),
        family=objects(["main"] * num),
        slice=objects(["typical"] * num),
        group=objects(r[1] for r in rows),
        share=np.full(num, 1 / len(logprob_SA)),
        text=objects(r[2] for r in rows),
        logprob=np.array([r[3] for r in rows]),
        num_tokens=np.full(num, float(NUM_TOKENS)),
    )


def test_the_ratio_of_a_drawn_groups_answers_estimates_how_often_the_group_occurs_now():
    """Importance sampling over a finite world: two strategies of many answers each."""
    rng = np.random.default_rng(0)
    num_answers = 40
    p0_SA, p1_SA = (rng.dirichlet(np.full(2 * num_answers, 5.0)).reshape(2, -1) for _ in range(2))
    mass0_S, mass1_S = p0_SA.sum(axis=1), p1_SA.sum(axis=1)
    ratio_S = []
    for s in range(2):
        drawn_PA = rng.choice(num_answers, (4_000, 8), p=p0_SA[s] / mass0_S[s])
        # As `kept` does it, with a row of its own for each answer that was drawn.
        then, now = (
            Traces(
                problem=objects(f"{p}" for p in range(4_000) for _ in range(8)),
                family=objects([""] * 32_000),
                slice=objects([""] * 32_000),
                group=objects(["s"] * 32_000),
                share=np.full(32_000, mass0_S[s]),
                text=objects(f"{i}" for i in range(32_000)),
                logprob=np.log(p_SA[s][drawn_PA].ravel()),
                num_tokens=np.ones(32_000),
            )
            for p_SA in (p0_SA, p1_SA)
        )
        ratio_S.append(kept(now, then).ratio_G.mean())
    assert ratio_S == pytest.approx(mass1_S / mass0_S, rel=0.05)


def test_what_one_strategy_gained_does_not_make_up_for_what_another_lost():
    then = traces([[-5.0] * PER_GROUP, [-5.0] * PER_GROUP])
    now = traces([[-4.0] * PER_GROUP, [-8.0] * PER_GROUP])
    found = kept(now, then)
    assert found.whole_G[::2] == pytest.approx([1.0] * NUM_PROBLEMS)
    assert found.whole_G[1::2] == pytest.approx([np.exp(-3.0)] * NUM_PROBLEMS)
    assert found.token_G[1::2] == pytest.approx([np.exp(-3.0 / NUM_TOKENS)] * NUM_PROBLEMS)
    mass = np.array([np.exp(1.0), np.exp(-3.0)]) / 2
    distinct = (mass.sum() ** 2 - (mass**2).sum()) / max(mass.sum(), 1.0) ** 2
    assert found.distinct_P == pytest.approx([distinct] * NUM_PROBLEMS)


def test_answers_that_one_side_lacks_are_left_out_and_order_changes_nothing():
    then, now = traces([[-5.0, -6.0], [-5.0, -5.0]]), traces([[-6.0, -7.0], [-9.0, np.nan]])
    order = np.random.default_rng(0).permutation(len(now.problem))
    shuffled = Traces(**{f.name: getattr(now, f.name)[order] for f in dataclasses.fields(now)})
    first, again = kept(now, then), kept(shuffled, then)
    assert first.whole_G == pytest.approx(again.whole_G)
    assert first.whole_G[:2] == pytest.approx([np.exp(-1.0), np.exp(-4.0)])


def test_round_0_reads_1_and_without_answers_the_reading_is_undefined():
    view = RoundView(0, samples(np.random.default_rng(0), 4, 2), traces=traces([[-5.0], [-6.0]]))
    values = {r.estimand.statistic: r for r in Retained().measure(view, None)}
    assert values["traces/retained"].value == values["traces/retained_token"].value == 1.0
    assert values["traces/dcp"].value == pytest.approx(0.5)
    missing = Retained().measure(dataclasses.replace(view, traces=None), view)
    assert {r.status for r in missing} == {"undefined"}


def test_no_bet_wins_within_the_tolerance_and_a_loss_beyond_it_alarms_in_one_round():
    rule = DecisionRule("main", extra=(retained(0.8),))
    base = RoundView(0, samples(np.random.default_rng(0), 60, 16), traces=traces([[-5.0], [-5.0]]))
    probe = samples(np.random.default_rng(1), 60, 8)
    # One of two strategies keeps this share: the mean loses half of the rest.
    for left, alarmed in ((0.62, None), (0.2, Tier.WATCH)):
        now = RoundView(1, probe, traces=traces([[-5.0], [-5.0 + np.log(left)]]))
        tables = with_responses(tables_of(base.probe, now.probe, "main", "tail"), base, now)
        found = next(
            q for q in guarded.quantities(tables, rule) if q.stream.quantity == "retained"
        ).guard()
        assert found.stream.baseline_se == 0
        growth = stakes.loss_factors(found.stream, 0.25)
        assert bool(growth.max() > 0) is (alarmed is not None)
        decision = rule.decide(now, base)
        assert decision.evidence[Tier.WATCH].reached is (alarmed is not None)
        assert not decision.evidence[Tier.HALT].reached


def test_a_round_that_no_longer_scores_them_has_lost_them_and_a_baseline_without_guards_none():
    rule = DecisionRule("main", extra=(retained(),))
    probe = samples(np.random.default_rng(0), 60, 16)
    scored, bare = RoundView(0, probe, traces=traces([[-5.0]])), RoundView(0, probe)
    decision = rule.decide(RoundView(1, probe), scored)
    assert decision.action is Action.HALT and "retained probability" in decision.reasons[0]
    decision = rule.decide(RoundView(1, probe), bare)
    assert "retained" in {entry.quantity for entry in decision.unmeasured}
