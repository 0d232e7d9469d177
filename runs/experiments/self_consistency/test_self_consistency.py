"""The arms of the self-consistency study.

And its votes, calibration and goals on made-up samples.
"""

import math

import numpy as np
import pytest

from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.monitors.base import Samples
from ouroloop.monitors.estimators.majority import majority_at
from runs.experiments.self_consistency import findings, measure, study

STUDY = study.EXPERIMENT.study


def samples(answers_by_problem, family="sum3"):
    """Every problem's answers; "0" is right."""
    rows = [
        (problem, answer) for problem, answers in answers_by_problem.items() for answer in answers
    ]
    num = len(rows)
    words = {name: np.array([""] * num, dtype=object) for name in ("slice", "strategy", "text")}
    numbers = {name: np.zeros(num) for name in ("valid", "nll", "num_tokens", "truncated")}
    problem, answer = (np.array([row[i] for row in rows], dtype=object) for i in (0, 1))
    correct = np.array([float(a == "0") for a in answer])
    return Samples(
        problem=problem,
        family=np.array([family] * num, dtype=object),
        answer=answer,
        correct=correct,
        **words,
        **numbers,
    )


def test_the_arms_differ_in_the_filter_alone_and_the_voted_one_never_sees_a_gold_answer():
    one, other = (resolve(STUDY.keys(arm, 0)) for arm in STUDY.arms)
    assert one.filters.gold and not other.filters.gold and other.filters.agreement == 0.5
    same = {"filters": one.filters, "name": ""}
    assert one.model_copy(update=same) == other.model_copy(update=same)
    assert one.probe.samples == one.probe.majority == max(measure.PATHS)


@pytest.mark.slow
def test_the_probe_set_asks_nothing_that_is_practised_and_every_family_of_traces_has_problems():
    setting = prepare(resolve(STUDY.keys("gold_filtered", 0, quick=True)))
    asked = [p for p in setting.probe_set.problems if p.family in measure.FAMILIES]
    assert {p.family for p in asked} == set(measure.FAMILIES) and {
        p.family for p in setting.problems
    } == set(study.TRAINED)
    assert not {p.question for p in asked} & {
        p.question for p in (*setting.problems, *setting.demonstrations)
    }


def test_the_vote_of_k_is_the_expectation_over_all_subsets_and_its_gain_is_paired_by_problem():
    answers = {
        "a": ["0"] * 6 + ["1"] * 2 + [None] * 2,
        "b": ["0", "1", "2", "3", "4", "0", "5", "6", "7", "8"],
        "c": ["1"] * 6 + ["0"] * 4,
    }
    alone = samples({"a": ["0"], "b": ["1"], "c": ["1"]})
    found = measure.votes(samples(answers), alone)
    assert (found["num"], found["single"], found["greedy"]) == (
        3.0,
        pytest.approx(1.2 / 3),
        pytest.approx(1 / 3),
    )
    every = samples(answers)
    assert found["maj_5"] == pytest.approx(np.mean(list(majority_at(every, 5).values())))
    assert found["maj_10"] == pytest.approx(2 / 3) and math.isnan(found["maj_40"]), (
        "nobody outvotes the two right ones of b"
    )
    assert (
        found["over_greedy"] == pytest.approx(1 / 3)
        and found["over_greedy_low"] < found["over_greedy"] < found["over_greedy_high"]
    )


def test_a_vote_share_that_is_too_sure_is_told_by_half_of_the_samples():
    rng = np.random.default_rng(0)
    wrong = rng.random(60) < 0.5
    sure = samples({f"p{i}": (["1"] if wrong[i] else ["0"]) * 40 for i in range(60)})
    found = measure.calibration(0, sure)
    assert found["overconfidence"] == pytest.approx(wrong.mean()) and found["ece"] > 0.4
    assert (
        found["share_9"] == 1.0
        and found["right_9"] == pytest.approx(1 - wrong.mean())
        and math.isnan(found["share_3"])
    )


def run(before, after, overconfidence=0.0):
    """Rows of a run: (single, greedy, maj@40) before and after, the same in every family."""
    out = []
    for number, (single, greedy, majority) in enumerate((before, after)):
        gains = {}
        for name, value in (("single", single), ("greedy", greedy)):
            gains |= {
                f"over_{name}": majority - value,
                f"over_{name}_low": majority - value - 0.05,
                f"over_{name}_high": majority - value + 0.05,
            }
        bins = {
            f"{short}_{i}": 0.5 for short, _ in measure.BIN_KEYS for i in range(measure.NUM_BINS)
        }
        paths = {f"maj_{k}": majority for k in measure.PATHS}
        scores = {
            "single": single,
            "greedy": greedy,
            "overconfidence": overconfidence * number,
            "ece": 0.1,
            "num": 60.0,
        }
        out += [
            {"round": float(number), "family": family, **scores, **paths, **gains, **bins}
            for family in (*measure.FAMILIES, measure.ALL)
        ]
    return out


def test_goals_are_met_missed_or_open_as_the_rows_say():
    seeds = {seed: run((0.4, 0.5, 0.7), (0.6 + 0.01 * seed, 0.7, 0.75)) for seed in range(3)}
    voted = {seed: run((0.4, 0.5, 0.7), (0.5, 0.6, 0.7), 0.2 + 0.01 * seed) for seed in range(3)}
    assert [g.met for g in findings.goals({"gold_filtered": seeds, "majority_voted": voted})] == [
        True
    ] * 6
    poor = {seed: run((0.4, 0.68, 0.7), (0.3 + 0.01 * seed, 0.6, 0.65)) for seed in range(3)}
    assert [g.met for g in findings.goals({"gold_filtered": poor, "majority_voted": poor})] == [
        True,
        False,
        False,
        False,
        False,
        False,
    ]
    one_seed = findings.goals({"gold_filtered": {0: seeds[0]}})
    assert [g.met for g in one_seed if g.has_result][3:] == [None, None]
    assert "sum3" in "\n".join(findings.notes({"gold_filtered": seeds}))
