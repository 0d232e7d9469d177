"""The page of an experiment, its goals, and the index of all."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ouroloop.loop.experiments import index, report, results
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.goals import Goal, one_sided_low
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.experiments.tables import gain, last
from ouroloop.monitors.estimators.stats import Estimate

STUDY = Study("toy", {"model": "arithmetic/base", "rounds": 1}, {"plain": {}, "trace": {}})
SCORES = {"plain": (0.1, 0.2), "trace": (0.4, 0.6)}


def goals(found):
    return [
        Goal.above("gain above 0", gain(found, "trace", "plain", last("x")), unit="%"),
        Goal.at_least("twenty times", Estimate(3.5, 1, 9, 2), 20),
        Goal.above("not run", gain(found, "trace", "absent", last("x"))),
    ]


def toy(folder, scores):
    """An experiment with the results of these runs in its folder."""
    lines = {
        (arm, seed): [{"round": "0", "x": "0.1"}, {"round": "1", "x": str(score)}]
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    }
    if lines:
        results.write(STUDY, lines, folder / results.NAME)
    return Experiment(
        STUDY,
        "A toy",
        "Nobody, arXiv 0000.00000",
        "Traces help.",
        ("| published |", "|---|", "| 1 -> 2 |"),
        "everything.",
        {"accuracy": (last("x"), "%")},
        goals,
        draw=lambda results, figure: figure.add_subplot().plot([1, 2]),
    )


def test_the_page_holds_the_published_numbers_ours_and_what_was_not_met(tmp_path):
    made = toy(tmp_path, SCORES)
    shown = report.write(made, "runs/toy", tmp_path, words="By hand.")
    assert "Nobody, arXiv 0000.00000. **Claim under test.** Traces help.\n" in shown
    assert "| 1 -> 2 |" in shown and "\nBy hand.\n" in shown
    assert "| plain | 2 | 15.0 % |" in shown and "| trace | 2 | 50.0 % |" in shown
    assert "| twenty times | 3.50 [1.00, 9.00] | **not met** |" in shown
    assert "| not run | - | not known yet |" in shown
    assert (tmp_path / "README.md").read_text() in shown
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_a_quick_page_says_so_and_leaves_out_goals_of_arms_that_did_not_run(tmp_path):
    shown = report.write(toy(tmp_path, SCORES), "runs/toy", tmp_path, quick=True)
    assert report.QUICK in shown and "not run" not in shown and "gain above 0" in shown
    assert "(`ouroloop study runs/toy --quick`;" in shown


def test_the_page_names_the_command_that_makes_the_table(tmp_path):
    made = toy(tmp_path, SCORES)
    assert "(`ouroloop study runs/toy`;" in report.write(made, "runs/toy", tmp_path)
    shown = report.write(replace(made, seeds=(0,)), "runs/toy", tmp_path)
    assert "(`ouroloop study runs/toy --seeds 0 1`;" in shown
    toy(tmp_path, {**SCORES, "trace": (0.4, 0.6, 0.5)})
    shown = report.write(replace(made, seeds=(0, 1)), "runs/toy", tmp_path)
    plain, trace = "runs/toy --arms plain", "runs/toy --arms trace --seeds 0 1 2"
    assert f"(`ouroloop study {plain}` and `ouroloop study {trace}`;" in shown


def test_without_finished_runs_there_is_no_page(tmp_path):
    made = toy(tmp_path, {})
    assert "nothing is finished" in report.write(made, "x", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_goal_is_met_only_when_the_interval_says_so():
    met = [Goal.above("", Estimate(0.5, low, 0.9, 3)).met for low in (0.1, 0.0, -0.1, math.nan)]
    assert met == [True, False, False, None]
    same = [Goal.above("", Estimate(value, value, value, 3)).met for value in (0.2, -0.2)]
    assert same == [None, False], "three times the same value is no interval above 0"
    ends = [(0.0, -0.01), (0.0, -0.028), (0.0, -0.03), (-0.03, -0.2), (math.nan, math.nan)]
    met = [Goal.not_below("", Estimate(value, low, 1, 3), -0.02).met for value, low in ends]
    # the one-sided limit of three seeds is at 0.68 of the two-sided one
    assert met == [True, True, None, False, None]
    assert one_sided_low(Estimate(0, -4.303, 4.303, 3)) == pytest.approx(-2.920, abs=1e-3)
    assert Goal.at_least("", Estimate(2.8, 1.0, 5.0, 3), 2.75).met is True


def test_the_index_has_a_line_per_experiment_and_names_what_is_not_met(tmp_path):
    made = toy(tmp_path, SCORES)
    found = results.read(STUDY, tmp_path / results.NAME)
    line = index.Line(tmp_path / "runs" / "toy", made, goals(found))
    shown = index.page([line], tmp_path)
    assert "**1 experiments, 3 goals: 0 met, 2 not met, 1 not known yet.**" in shown
    assert (
        "| [toy](runs/toy/README.md) | Nobody, arXiv 0000.00000 | Traces help. | 0 | 2 | 1 |"
        in (shown)
    )
    missed = "- toy: gain above 0: 35.0 [-28.5, 98.5] %\n- toy: twenty times: 3.50 [1.00, 9.00]\n"
    assert f"Not met:\n\n{missed}" in shown
    assert "Not known yet:\n\n- toy: not run: -\n" in shown


def test_readmes_count_stands_between_its_markers_and_nothing_else_changes(tmp_path):
    line = index.Line(Path("toy"), toy(tmp_path, SCORES), [Goal("a", Estimate(1, 0, 2, 2), True)])
    before = "# X\n\n<!-- goals -->\nold\n<!-- /goals -->\nrest\n"
    after = index.counted(before, [line])
    assert after == before.replace(
        "old", "1 experiments, 1 goals: 1 met, 0 not met, 0 not known yet."
    )
