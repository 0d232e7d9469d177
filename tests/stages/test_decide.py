"""From tables to readings and a decision."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ouroloop.loop.round import Round
from ouroloop.loop.rows import Preflight, PreflightAction, RoundPlan
from ouroloop.loop.stages.decide import _heard, fresh_share
from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.metrics.calibration import ModelCalibration
from ouroloop.monitors.metrics.readings import some_samples

sys.path.insert(0, str(Path(__file__).parents[1] / "monitors"))


def test_a_baseline_with_more_samples_gives_more_choices_of_a_vote_not_larger_votes():
    """The over-confidence of a vote depends on how many vote.

    Votes of 4 from 64 samples of a problem and from 8 read alike, votes of 32 do not.
    """
    from simulated_panel import samples

    many = samples(np.random.default_rng(0), 200, 64, accuracy=0.4, spread=0.3)
    few = samples(np.random.default_rng(1), 200, 8, accuracy=0.4, spread=0.3)

    def overconfidence(rows, size):
        (first, *_) = ModelCalibration(vote_size=size).measure(RoundView(0, rows), None)
        return first.name, first.value

    (name, of_many), (same_name, of_few) = (overconfidence(rows, 8) for rows in (many, few))
    assert name == same_name == "calibration/overconfidence@8"
    other_name, of_more = overconfidence(many, 64)
    assert other_name == "calibration/overconfidence@64"
    assert abs(of_many - of_few) < 0.03 < abs(of_more - of_few)


def test_which_samples_of_a_baseline_are_read_does_not_depend_on_the_order_of_its_rows():
    from simulated_panel import samples

    many = samples(np.random.default_rng(0), 20, 32)
    sorted_N = np.argsort(many.correct, kind="stable")
    read = [some_samples(rows, 8) for rows in (many, many.where(sorted_N))]
    read_as = [sorted(zip(some.problem, some.text, some.nll, strict=True)) for some in read]
    assert read_as[0] == read_as[1] and len(read_as[0]) == 160
    assert 0.35 < read[1].correct.mean() < 0.75, (
        "sorted rows are no reason to read the wrong ones alone"
    )


@pytest.mark.parametrize(
    ("guard", "action", "share"),
    [(True, "adjust", 0.4), (False, "adjust", 0.1), (True, "pass", 0.1), (True, None, 0.1)],
)
def test_the_share_of_fresh_data_that_is_read_is_the_one_that_was_trained_on(
    tmp_path, guard, action, share
):
    made = Round.of(tmp_path, 1)
    made.plan = RoundPlan(1, 0, 0, (1.0,), 0.1, None, False, 10)
    if action:
        made.preflight = Preflight(PreflightAction(action), (), 0.4, None)
    assert fresh_share(made, guard) == share


def test_round_0_was_made_of_no_fresh_data(tmp_path):
    assert fresh_share(Round.of(tmp_path, 0), guard=True) == 0


def test_the_rule_hears_of_a_built_in_metric_that_raised_and_not_of_a_users():
    """By their names alone: a user's metrics are built once a round, to be measured."""
    readings = [
        Reading(Estimand(name), float("nan"), status="error", reason="it raised")
        for name in ("accuracy", "mine")
    ]
    assert _heard(readings) == readings[:1]
