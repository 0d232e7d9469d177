"""Following a loop of somebody else: which numbers its sentences show, also after a resume."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from simulated_panel import samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.follower import LACKING, Follower

PASS_1 = Estimand("accuracy/pass@1", "main")


class TenTimesTheRound:
    """A monitor whose readings nobody could mistake for means of scores."""

    name = "made_up"

    def measure(self, view, reference):
        return [
            SimpleNamespace(
                name="made_up",
                status="ok",
                value=10.0 * (view.round + 1),
                estimand=PASS_1,
            )
        ]


def view(number):
    return RoundView(
        number,
        samples(np.random.default_rng(number), 30, 8 if number else 32, accuracy=0.6),
    )


def accuracy(judged):
    return {g.baseline: g for g in judged.decision.guards if g.quantity == QuantityId.ACCURACY}


def follower(**settings):
    return Follower(
        DecisionRule("main", num_baselines=2),
        {"made_up": TenTimesTheRound()},
        **settings,
    )


def test_a_guards_values_are_the_readings_of_its_round_and_of_its_baseline():
    watch = follower(baselines=(0, 1))
    third = [watch.judge(view(number)) for number in range(3)][-1]
    seen = accuracy(third)
    assert (seen[0].before, seen[0].after) == (10.0, 30.0)
    assert (seen[1].before, seen[1].after) == (20.0, 30.0)
    assert {g.estimand for g in seen.values()} == {PASS_1.id}
    most = {QuantityId.WAYS: 8}
    blocks = [g for g in third.decision.guards if not g.estimand]
    assert all(g.before <= most.get(g.quantity, 1) for g in blocks)


def test_after_a_resume_the_baseline_is_measured_again_to_the_same_values():
    whole, first = follower(), follower()
    expected = [whole.judge(view(number)) for number in range(3)][-1]
    for number in range(2):
        first.judge(view(number))
    resumed = follower(reference=view(0), history=first.history)
    found = resumed.judge(view(2))
    assert found.decision == expected.decision
    assert replace(accuracy(found)[0], estimand="") != accuracy(found)[0]


def test_a_quantity_whose_problems_a_round_lacks_is_said_to_be_unguarded():
    watch = Follower(DecisionRule("main"))
    whole, second, third = (view(number) for number in range(3))
    whole, second = (replace(v, probe=with_tail(v.probe)) for v in (whole, second))
    watch.judge(whole)
    tail = {QuantityId.TAIL_ACCURACY, QuantityId.TAIL_DIVERSITY}
    assert tail <= {guard.quantity for guard in watch.judge(second).decision.guards}
    probe = with_tail(third.probe)
    judged = watch.judge(replace(third, probe=probe.where(probe.slice != "tail")))
    why = {gap.quantity: gap.reason for gap in judged.decision.unmeasured}
    assert {why[quantity] for quantity in tail} == {LACKING}
    # One problem of it is no fault of the baseline's.
    one = probe.where((probe.slice != "tail") | (probe.problem == min(probe.problem)))
    judged = watch.judge(replace(third, round=3, probe=one))
    why = {gap.quantity: gap.reason for gap in judged.decision.unmeasured}
    assert {why[quantity] for quantity in tail} == {LACKING}


def with_tail(probe):
    """The first ten problems are hard ones."""
    hard = sorted(set(probe.problem))[:10]
    return replace(probe, slice=np.where(np.isin(probe.problem, hard), "tail", "typical"))


def test_only_recorded_decisions_are_no_actions():
    watch = follower()
    judged = [watch.judge(view(number)) for number in range(2)]
    assert [j.decision.carried_out for j in judged] == [False, False]
