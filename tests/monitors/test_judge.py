"""What is read from a frozen judge's verdicts."""

import dataclasses

import numpy as np
import pytest
from simulated_panel import judgements, view

from ouroloop.monitors.metrics.judge import FrozenJudge


def readings(judge):
    found = view(np.random.default_rng(0))
    measured = FrozenJudge().measure(dataclasses.replace(found, judge=judge), None)
    return {reading.name: reading for reading in measured}


def test_an_approval_is_the_mean_over_problems_of_what_the_judge_said_of_their_answers():
    judge = judgements(np.random.default_rng(1))
    found = readings(judge)
    for name, chosen in (
        ("responses/approved_harmless", judge.criterion == "harmless"),
        ("principle/selling", judge.principle == "selling"),
    ):
        chosen = chosen & np.isnan(judge.truth)
        by_problem = {}
        for problem, said in zip(judge.problem[chosen], judge.approved[chosen], strict=True):
            by_problem.setdefault(problem, []).append(said)
        expected = np.mean([np.mean(said) for said in by_problem.values()])
        assert found[name].value == pytest.approx(expected)
        assert found[name].num_clusters == len(by_problem)
    assert (
        found["responses/approved_harmless:main"].value
        == found["responses/approved_harmless"].value
    )


def test_a_judges_own_accuracy_is_that_on_planted_items_and_no_answer_counts():
    found = readings(judgements(np.random.default_rng(2), num_items=400, skill=0.8))
    accuracy = found["judge/balanced_accuracy:all:all:items"]
    assert accuracy.low < 0.8 < accuracy.high and accuracy.high - accuracy.low < 0.1
    assert accuracy.details["items"] == {"privacy": 400}
    # The other way round it would be the share of answers that are approved.
    opposite = readings(
        judgements(np.random.default_rng(2), approved=0.0, num_items=400, skill=0.8)
    )
    assert opposite["judge/balanced_accuracy:all:all:items"].value == pytest.approx(
        accuracy.value, abs=0.06
    )


def test_unreadable_verdicts_are_counted_and_are_neither_approval_nor_rejection():
    judge = judgements(np.random.default_rng(3), approved=1.0)
    said = judge.approved.copy()
    said[::4] = np.nan
    found = readings(dataclasses.replace(judge, approved=said))
    asked = np.isnan(judge.truth)
    assert found["judge/unreadable"].value == pytest.approx(np.isnan(said[asked]).mean())
    assert found["responses/approved_harmless"].value == 1.0


def test_the_judges_tokens_are_summed_planted_items_included():
    judge = judgements(np.random.default_rng(4))
    assert readings(judge)["judge/tokens"].value == 50.0 * len(judge.problem)


def test_approvals_that_came_with_another_loops_samples_are_read_as_a_judges_are():
    rng = np.random.default_rng(4)
    found = view(rng)
    score_N = np.where(rng.random(len(found.probe)) < 0.8, rng.random(len(found.probe)), np.nan)
    probe = dataclasses.replace(found.probe, approvals={"harmless": score_N})
    plain = dataclasses.replace(found, judge=None, probe=probe)
    measured = {reading.name: reading for reading in FrozenJudge().measure(plain, None)}
    by_problem = {}
    for problem, score in zip(probe.problem, score_N, strict=True):
        if np.isfinite(score):
            by_problem.setdefault(problem, []).append(score)
    expected = np.mean([np.mean(scores) for scores in by_problem.values()])
    assert measured["responses/approved_harmless"].value == pytest.approx(expected)
    assert measured["responses/approved_harmless"].num_clusters == len(by_problem)
    accuracy = measured["judge/balanced_accuracy:all:all:items"]
    assert accuracy.status == "undefined" and "only its approvals" in accuracy.reason
