"""The arms of trace distillation: equal examples, the same samples, what each learns.

The naive student's pretraining; goals on made-up rows.
"""

import itertools
import math

import pytest

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.magister import findings, measure, study
from runs.experiments.magister.figure import draw

STUDY = study.EXPERIMENT.study


def test_traces_and_answers_come_from_the_same_samples_of_the_same_problems_and_are_equally_many():
    for size in findings.SIZES:
        traces, answers = (
            resolve(STUDY.keys(f"{target}_{size}", 1)) for target in ("trace", "answer")
        )
        assert (traces.dataset.target, answers.dataset.target) == ("trace", "answer")
        assert (
            traces.dataset.size == answers.dataset.size == size < traces.sampling.problems_per_round
        )
        same = {"name": "", "dataset": traces.dataset}
        assert answers.model_copy(update=same) == traces.model_copy(update=same)
        assert (
            not traces.sampling.student
            and traces.teachers == ("arithmetic/teacher",)
            and traces.init == "base"
        )
        assert (
            traces.filters.gold
            and traces.filters.per_problem == traces.sampling.samples_per_problem == 1
        )


def test_the_control_arms_differ_in_epochs_and_student_alone():
    answer, longer = STUDY.keys("answer_1600", 0), STUDY.keys("answer_long", 0)
    assert longer["sft"]["num_train_epochs"] == 4 * answer["sft"]["num_train_epochs"]
    assert {**longer, "name": "", "sft": answer["sft"]} == {**answer, "name": ""}
    naive = [STUDY.keys(arm, 0) for arm in ("naive_trace", "naive_answer")]
    assert all(keys["model"] == "$naive" for keys in naive) and naive[0]["sft"] == naive[1]["sft"]
    assert [keys["dataset"]["target"] for keys in naive] == ["trace", "answer"]


@pytest.mark.slow
def test_no_question_of_the_probe_set_is_trained_on_and_all_practised_families_are_probed():
    setting = prepare(resolve(STUDY.keys("trace_1600", 0)))
    assert {p.family for p in setting.problems} == set(measure.FAMILIES) and set(
        measure.FAMILIES
    ) <= {p.family for p in setting.probe_set.problems}
    assert len(setting.problems) > findings.PROBLEMS[1600]
    assert not {p.question for p in setting.probe_set.problems} & {
        p.question for p in setting.problems
    }


def test_the_naive_student_never_sees_a_line_between_question_and_answer():
    shown = [
        study.answers_alone(whole)
        for whole in itertools.islice(
            world.demonstrations("pretrain", 1, 0.5, {"sum2": 1, "copy": 1}), 200
        )
    ]
    for demonstration in shown:
        (question, _), (answer, _) = demonstration.pieces
        assert question.endswith("\nA:\n") and answer.startswith("answer ") and "\n" not in answer


@pytest.mark.slow
def test_the_naive_student_is_made_once(tmp_path, monkeypatch):
    from ouroloop.evals.worlds.arithmetic import pretrain

    real = pretrain.pretrain
    monkeypatch.setattr(
        pretrain,
        "pretrain",
        lambda config, out, **more: real(
            pretrain.PretrainConfig("answers", tokens=4000), out, **more
        ),
    )
    checkpoint = study.naive(tmp_path)
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert (
        study.naive(tmp_path) == checkpoint
        and (checkpoint / "model.safetensors").stat().st_mtime_ns == before
    )


def runs(scores):
    start = {"accuracy": 0.5, **{f"{family}_greedy": 0.5 for family in measure.FAMILIES}}
    return {seed: [start, {**start, "accuracy": score}] for seed, score in enumerate(scores)}


def test_goals_are_met_or_missed_as_the_rows_say():
    rows = {"trace_100": runs((0.5, 0.55, 0.52)), "answer_100": runs((0.0, 0.0, 0.01))}
    rows |= {"trace_1600": runs((0.7, 0.72, 0.71)), "answer_1600": runs((0.1, 0.1, 0.1))}
    found = findings.goals(rows)
    assert [g.met for g in found] == [True, True, True, True]
    assert found[0].found.value == pytest.approx(7.1, abs=0.01) and found[
        3
    ].found.value == pytest.approx(0.61 - 0.52, abs=0.01)
    close = {
        **rows,
        "answer_1600": runs((0.6, 0.5, 0.65)),
        "naive_trace": runs((0.2, 0.2, 0.2)),
        "naive_answer": runs((0.1, 0.1, 0.1)),
    }
    assert [g.met for g in findings.goals(close)] == [False, False, True, False, False]
    assert (
        findings.growth(
            {"trace_100": rows["trace_100"], "answer_100": rows["answer_100"]}
        ).num_clusters
        == 0
    )
    zero = findings.goals({"trace_100": runs((0.5, 0.5)), "answer_100": runs((0.0, 0.1))})
    assert zero[0].met is True and math.isnan(zero[0].found.low), (
        "the seed without a right answer has no ratio"
    )


def test_the_figure_is_drawn_from_the_arms_that_are_there():
    from matplotlib.figure import Figure

    figure = Figure()
    draw(
        {
            "trace_100": runs((0.5, 0.6)),
            "answer_100": runs((0.1, 0.2)),
            "naive_trace": runs((0.3, 0.3)),
        },
        figure,
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "traces",
        "answers",
        "naive_trace",
    ]
    draw({"naive_answer": runs((0.1,))}, Figure())
