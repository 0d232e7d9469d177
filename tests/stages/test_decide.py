"""From tables to readings and a decision."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ouroloop.loop.round import Round
from ouroloop.loop.rows import Preflight, PreflightAction, RoundPlan
from ouroloop.loop.stages.decide import fresh_share
from ouroloop.monitors.base import RoundView
from ouroloop.monitors.metrics.calibration import ModelCalibration
from ouroloop.monitors.metrics.readings import some_samples

sys.path.insert(0, str(Path(__file__).parents[1] / "monitors"))


def test_an_anchor_is_read_with_as_many_samples_per_problem_as_any_round():
    """The over-confidence of a vote depends on how many vote.

    64 samples and 16 of one model read differently, 16 and some 16 of 64 alike.
    """
    from simulated_panel import samples

    many = samples(np.random.default_rng(0), 200, 64, accuracy=0.4, spread=0.3)
    few = samples(np.random.default_rng(1), 200, 16, accuracy=0.4, spread=0.3)
    some = some_samples(many, 16)
    assert len(some) == 200 * 16 and some_samples(few, 16) is few
    read = [
        ModelCalibration().measure(RoundView(0, probe), None)[0].value
        for probe in (many, few, some)
    ]
    assert abs(read[2] - read[1]) < 0.02 < abs(read[0] - read[1])


def test_which_samples_of_an_anchor_are_read_does_not_depend_on_the_order_of_its_rows():
    from simulated_panel import samples

    many = samples(np.random.default_rng(0), 20, 32)
    sorted_N = np.argsort(many.correct, kind="stable")
    read = [some_samples(rows, 8) for rows in (many, many.where(sorted_N))]
    told = [sorted(zip(some.problem, some.text, some.nll, strict=True)) for some in read]
    assert told[0] == told[1] and len(told[0]) == 160
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
