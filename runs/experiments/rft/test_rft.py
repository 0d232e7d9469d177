"""The arms of rejection-sampling fine-tuning: who drafts, from what each starts, equal sizes.

And the goals on made-up rows.
"""

import pytest

from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.rft import findings, measure, study
from runs.experiments.rft.figure import draw

STUDY = study.EXPERIMENT.study
SAMPLED = tuple(arm for arm in STUDY.arms if not arm.startswith("gold"))


def test_every_student_starts_from_the_base_and_learns_the_gold_solutions_of_the_same_questions():
    for arm in STUDY.arms:
        keys = STUDY.keys(arm, 2)
        assert (
            keys["init"] == "base" and keys["dataset"]["gold"] and not keys["sampling"]["student"]
        )
        assert keys["model"] == (
            "arithmetic/teacher" if arm == "gold_teacher" else "arithmetic/base"
        )
        assert (
            keys["task"]["num_problems"]
            == keys["sampling"]["problems_per_round"]
            == study.QUESTIONS
        )
        assert keys["sft"]["num_train_epochs"] == (9 if arm == "gold_long" else 3)
    assert STUDY.keys("gold_b", 2)["seed"] == 1002 and STUDY.keys("gold", 2)["seed"] == 2


def test_paths_are_sampled_from_fine_tuned_models_that_are_trained_before():
    for arm in SAMPLED:
        teachers = STUDY.keys(arm, 0)["teachers"]
        several = study.WITH_TEACHER if arm.startswith("with_teacher") else study.MODELS
        assert teachers == (["@gold"] if arm.startswith(("k", "temperatures")) else several)
        assert STUDY.keys(arm, 0)["filters"].get("steps", False) == arm.endswith("_steps")
        order = STUDY.in_order([arm])
        assert all(order.index(teacher[1:]) < order.index(arm) for teacher in teachers)


def test_the_arms_of_equal_size_draw_as_many_samples_and_keep_as_many_paths():
    for arm in ("k9_equal", "temperatures_equal", "models_equal"):
        keys = STUDY.keys(arm, 0)
        assert keys["sampling"]["samples_per_problem"] * len(keys["teachers"]) == study.K
        assert keys["dataset"]["size"] == findings.EQUAL < study.QUESTIONS * study.K
        assert keys["filters"] == STUDY.keys("k9", 0)["filters"]
    assert STUDY.keys("temperatures_equal", 0)["sampling"]["temperatures"] == study.TEMPERATURES


@pytest.mark.parametrize("steps", ["", "_steps"])
def test_one_model_draws_as_often_as_three_do_and_only_when_it_is_named(steps):
    one, three = STUDY.keys(f"k27{steps}", 0), STUDY.keys(f"models{steps}", 0)
    assert one["sampling"]["samples_per_problem"] == three["sampling"]["samples_per_problem"] * len(
        three["teachers"]
    )
    assert {**one, "name": "", "teachers": [], "sampling": {}} == {
        **three,
        "name": "",
        "teachers": [],
        "sampling": {},
    }
    assert set(STUDY.default_arms()) == set(STUDY.arms) - {"k27", "k27_steps"}


def test_no_question_of_the_probe_set_is_trained_on():
    setting = prepare(resolve(STUDY.keys("gold", 0)))
    assert (
        {p.family for p in setting.problems}
        == {p.family for p in setting.probe_set.problems}
        == {study.FAMILY}
    )
    assert len(setting.problems) == study.QUESTIONS and all(p.solution for p in setting.problems)
    pairs = [
        {tuple(sorted((p.metadata["a"], p.metadata["b"]))) for p in group}
        for group in (setting.problems, setting.probe_set.problems)
    ]
    assert not pairs[0] & pairs[1]


@pytest.mark.slow
def test_a_run_is_read_with_its_distinct_paths_per_question(tmp_path):
    from scripted_world import Model, carry, recipe

    settings = recipe(
        rounds=1,
        refine={"critique": False, "revisions": 0},
        filters={"per_problem": None},
        dataset={"gold": True},
    )
    questions = settings.sampling.problems_per_round
    _, path = carry(tmp_path, Model(), settings)
    before, after = measure.measure(path)
    assert (before["examples"], before["sampled"], before["paths"], before["false_paths"]) == (
        0,
        0,
        0,
        0,
    )
    assert after["false_paths"] == 0, "the scripted recipe has a step filter"
    assert after["examples"] == after["sampled"] + questions, "each question with its gold solution"
    assert 1 < after["paths"] <= after["examples"] / questions, (
        "a gold path that was sampled too counts once"
    )
    assert 0 < after["greedy_rarer"] < 1 and 0 < after["solved_rarer"] < 1


def runs(greedy, paths=2.0):
    return {
        seed: [{"greedy": 0.4, "paths": 0}, {"greedy": value, "paths": paths}]
        for seed, value in enumerate(greedy)
    }


def test_goals_are_met_or_missed_as_the_rows_say():
    rows = {
        "gold": runs((0.60, 0.62, 0.61), 1),
        "gold_long": runs((0.66, 0.70, 0.69), 1),
        "k9": runs((0.80, 0.82, 0.84), 2.5),
    }
    rows["k1"] = runs((0.70, 0.72, 0.71))
    assert [g.met for g in findings.goals(rows) if g.has_result] == [True, True, True]
    even = {
        **rows,
        "models": runs((0.81, 0.81, 0.84)),
        "k9_equal": rows["k9"],
        "models_equal": runs((0.90, 0.93, 0.95)),
    }
    found = {g.asks.split(" (")[0]: g for g in findings.goals(even)}
    assert found["several models' paths add to the model's own"].met is False
    assert found[f"at {findings.EQUAL} paths each, three models beat one"].met is True
    assert found[
        "the model's own right paths add to supervised fine-tuning"
    ].found.value == pytest.approx(0.21)
    one_seed = findings.goals({"gold": {0: rows["gold"][0]}, "k9": {0: rows["k9"][0]}})
    assert [g.met for g in one_seed if g.has_result] == [None], "one seed has no interval"


def test_the_curve_is_drawn_from_the_arms_that_are_there():
    from matplotlib.figure import Figure

    figure = Figure()
    draw(
        {
            "gold": runs((0.6, 0.7), 1),
            "gold_teacher": runs((0.5, 0.5)),
            "k9": runs((0.8, 0.9), 2.5),
        },
        figure,
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["gold", "k9"]
    assert figure.axes[0].get_xlabel() == "distinct paths per question in the training set"
