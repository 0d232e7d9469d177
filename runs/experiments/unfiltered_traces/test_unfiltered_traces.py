"""The arms against answers alone, sums by number of digits, and goals that can fail."""

import asyncio
import math
import random

import pytest
from matplotlib.figure import Figure
from scripted_world import Model, carry, recipe

from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.unfiltered_traces import findings, longer, measure
from runs.experiments.unfiltered_traces.figure import draw
from runs.experiments.unfiltered_traces.study import ARMS, STUDY


def recipe_of(arm):
    return resolve(STUDY.keys(arm, 2))


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_takes_as_many_steps_on_examples_of_as_many_questions(arm):
    found, base = recipe_of(arm), recipe_of("gold_traces")
    for same in ("rounds", "seed", "model", "probe", "engine", "monitors", "refine"):
        assert getattr(found, same) == getattr(base, same), same
    times = 6 if arm.endswith("_long") else 1
    assert found.sft == {**base.sft, "max_steps": times * base.sft["max_steps"]}
    assert found.sampling.problems_per_round * found.sampling.samples_per_problem == 800
    assert found.filters.gold is arm.startswith("filtered")


def test_answers_alone_are_the_gold_ones_and_the_unfiltered_arms_never_see_one():
    answers, unfiltered = recipe_of("answers"), recipe_of("unfiltered")
    assert answers.dataset.target == "answer" and answers.dataset.gold
    assert not answers.sampling.student, "no sample joins them"
    assert unfiltered.dataset.target == "trace" and not unfiltered.dataset.gold
    assert not unfiltered.filters.gold and unfiltered.sampling.student


def test_sums_of_more_digits_are_held_out_and_traces_of_every_strategy_grade_right():
    task = ArithmeticTask()
    practised = {p.question for p in prepare(recipe_of("filtered_longer")).problems}
    for digits in longer.DIGITS:
        items = longer.problems(digits)
        assert len({p.id for p in items}) == longer.PROBLEMS
        assert longer.problems(digits) is items
        for item in items:
            a, b = item.metadata["a"], item.metadata["b"]
            assert len(str(a)) == len(str(b)) == digits and item.question not in practised
            assert world.split_of(item.family, a, b) == "heldout"
            for name in st.SUM_STRATEGIES:
                if st.applies(name, item.family, a):
                    text = world.demonstrate(item, name)
                    assert task.grade(item, text).correct and task.check_steps(item, text).valid


def answered(digits, texts, index=0):
    items = longer.problems(digits)
    return [
        {"digits": digits, "problem": item.id, "index": index, "text": text(item)}
        for item, text in zip(items, texts, strict=False)
    ]


def by_column(item):
    return world.demonstrate(item, "column")


def lost_last_line(item):
    """Every line right but the answer."""
    return by_column(item).rsplit("\n", 1)[0] + "\nanswer 0"


def test_longer_sums_are_compared_with_what_more_lines_alone_would_cost():
    answers = answered(2, [by_column, lost_last_line])
    answers += answered(4, [lost_last_line, lost_last_line])
    answers += answered(2, [by_column], index=-1)
    found = measure.by_digits(answers)
    # Two digits take three lines after the first: five of six are right.
    assert found["digits_2"] == 0.5 and found["greedy_2"] == 1
    assert found["line_2"] == pytest.approx(5 / 6)
    assert found["digits_4"] == 0 and found["line_4"] == pytest.approx(4 / 5)
    assert found["compounded_4"] == pytest.approx((5 / 6) ** 5)
    assert found["compounded_2"] == pytest.approx((5 / 6) ** 3)
    # A sum that is misread at two digits costs longer ones as much: the first line counts too.
    misread = measure.by_digits([*answers, *answered(2, [lambda item: "99+99\n9+9=18"])])
    assert misread["head_2"] == pytest.approx(2 / 3) and misread["line_2"] == found["line_2"]
    assert misread["compounded_4"] == pytest.approx(2 / 3 * (5 / 6) ** 5)
    assert math.isnan(found["digits_3"]) and math.isnan(found["line_3"])


def test_an_answer_alone_has_no_lines_and_is_graded_all_the_same():
    found = measure.by_digits(answered(2, [lambda item: f"answer {item.answer}"]))
    assert found["digits_2"] == 1 and math.isnan(found["line_2"])
    assert math.isnan(found["compounded_2"])


class Longer(Model):
    """The scripted model, which knows sums of any length."""

    def answer(self, request):
        for digits in longer.DIGITS:
            for item in longer.problems(digits):
                if request.prompt.startswith(item.question + "\n"):
                    rng = random.Random(request.seed)
                    return world.demonstrate(item, "column") if rng.random() < 0.5 else "answer 0"
        return super().answer(request)


@pytest.mark.slow
def test_a_run_is_asked_once_and_its_table_holds_what_it_answered(tmp_path, monkeypatch):
    model = Longer()
    plain = {"filters": {"gold": False, "steps": False}, "refine": {"critique": False}}
    plain["refine"]["revisions"] = 0
    settings = recipe(name=f"{longer.FIRST}-0", rounds=1, **plain)
    _, path = carry(tmp_path, model, settings)

    async def serve(engine, found, number):
        await engine.load(found.path / "rounds" / f"{number:03d}" / "checkpoint")

    monkeypatch.setattr(longer, "serve", serve)
    asyncio.run(longer.ask(path, model.engine))
    before = len(model.engine.requests)
    asyncio.run(longer.ask(path, model.engine))
    assert len(model.engine.requests) == before, "what is there is not sampled again"
    first, last = measure.table(path)
    assert len(longer.read(path, 0)) == len(longer.read(path, 1)) > 0 and not longer.read(path, 5)
    assert 0.3 < last["digits_4"] < 0.7 and last["line_4"] == 1
    assert 0.2 < last["wrong_traces"] < 0.8 and math.isnan(first["wrong_traces"])


def run(pass_1, seed, longest=0.1, line=0.5):
    row = {"round": 1.0, "action": "continue", "examples": 800.0, "wrong_traces": 0.4, "dcp": 0.2}
    row |= dict.fromkeys(("pass_1", "greedy", "pass_k", "sum3_pass_1"), pass_1 + seed / 1000)
    for d in longer.DIGITS:
        row[f"head_{d}"] = 0.9
        row |= {f"digits_{d}": longest + seed / 900, f"greedy_{d}": 0.5, f"compounded_{d}": 0.4}
        row[f"line_{d}"] = line + seed / 1000
    before = {f"line_{d}": 0.8 for d in longer.DIGITS}
    return [{**row, **before, "round": 0.0}, row]


def results_of(unfiltered, answers, **changes):
    level = {arm: unfiltered for arm in ARMS if arm.startswith("unfiltered")}
    level |= {arm: answers for arm in ARMS if arm.startswith("answers")}
    # Arms that are compared need a spread of their own, or their difference would have none.
    level["filtered_longer"] = 0.8
    out = {}
    for arm in ARMS:
        value = level.get(arm, 0.9)
        extra = {"longest": 0.3} if arm == "filtered_longer" else {}
        out[arm] = {s: run(value, s * (1 + value), **{**changes, **extra}) for s in range(3)}
    return out


def test_goals_are_met_by_the_effect_and_not_by_its_opposite():
    hurts = findings.goals(results_of(0.3, 0.6))
    assert {goal.met for goal in hurts} == {True} and len(hurts) == 14
    other = {g.asks: g.met for g in findings.goals(results_of(0.95, 0.6, longest=0.5, line=0.9))}
    assert {goal.met for goal in findings.goals({})} == {None}
    assert set(other.values()) == {False}
    lines = findings.notes(results_of(0.3, 0.6))
    assert sum(line.startswith("| the base |") for line in lines) == 1
    figure = Figure()
    draw(results_of(0.3, 0.6), figure)
    assert [len(axes.lines) > 0 for axes in figure.axes] == [True, True]
