"""The arms of the Orca reproduction, what its teacher is taught, its goals on made-up rows.

And what is read off a run.
"""

import asyncio
import json
import math
import random
import threading
import time
from collections import Counter

import pytest

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.orca import measure, study, systems
from runs.experiments.orca.figure import draw

STUDY = study.STUDY
ITEMS = {p.family: p for p in reversed(ArithmeticTask().problems("heldout"))}


def recipe(arm, quick=False):
    return resolve({**STUDY.keys(arm, 0, quick), "teachers": ["arithmetic/teacher"]})


def test_the_arms_have_the_same_teacher_problems_and_size_and_differ_in_the_signal_alone():
    found = {arm: recipe(arm) for arm in STUDY.arms}
    same = {
        (
            r.model,
            r.teachers,
            str(r.sft),
            r.rounds,
            r.dataset.size,
            str(r.probe),
            str(r.task),
            r.sampling.problems_per_round,
            r.sampling.samples_per_problem,
            r.sampling.student,
            r.sampling.temperatures,
            r.monitors.guard,
        )
        for r in found.values()
    }
    assert len(same) == 1 and not found["mix"].sampling.student and not found["mix"].monitors.guard
    assert (
        found["mix"].sampling.problems_per_round * found["mix"].sampling.samples_per_problem
        > found["mix"].dataset.size
    )
    assert (
        found["mix"].sampling.systems
        == found["mix_erased"].sampling.systems
        == tuple(systems.FORMS)
    )
    assert {
        arm: (r.sampling.systems, r.dataset.target)
        for arm, r in found.items()
        if arm in ("plain", "steps", "explanation")
    } == {
        "plain": ((), "answer"),
        "steps": ((systems.STEPS,), "trace"),
        "explanation": ((systems.EXPLAIN,), "trace"),
    }
    assert found["mix_unfiltered"].sampling == found["mix"].sampling
    assert [arm for arm, r in found.items() if not r.dataset.erase_systems] == [
        "plain",
        "mix",
        "mix_unfiltered",
    ]
    assert [arm for arm, r in found.items() if not r.filters.gold] == ["mix_unfiltered"]


@pytest.mark.slow
def test_every_student_is_asked_without_a_system_prompt_about_questions_that_nobody_practised():
    for arm in STUDY.arms:
        setting = prepare(recipe(arm))
        assert setting.prompts.system is None
        assert not {p.question for p in setting.probe_set.problems} & {
            p.question for p in (*setting.problems, *setting.demonstrations)
        }
        assert (
            {p.family for p in setting.problems}
            == set(world.FAMILIES)
            == {p.family for p in setting.probe_set.problems}
        )
        assert setting.probe_set.main == "sum2"


@pytest.mark.parametrize("family", systems.NEEDED)
def test_the_teacher_is_taught_right_answers_in_the_form_that_is_asked_for(family):
    item = ITEMS[family]
    for system, form in systems.FORMS.items():
        text = systems.demonstrate(item, system, random.Random(0))
        assert ArithmeticTask().grade(item, text).correct and systems.form_of(text) == form, text
    assert (
        systems.form_of("answer 5 or so\nanswer 6")
        == systems.form_of("12+30")
        == systems.form_of("")
        == "other"
    )


@pytest.mark.parametrize("family", world.SKILLS)
def test_a_skill_has_its_answer_for_a_trace_under_every_system_prompt(family):
    assert {
        systems.demonstrate(ITEMS[family], system, random.Random(0)) for system in systems.FORMS
    } == {f"answer {ITEMS[family].answer}"}


@pytest.mark.slow
def test_what_the_teacher_is_taught_is_none_of_what_students_practise_or_are_asked():
    lessons = systems.lessons()
    asked_of = {
        prompt.removeprefix(f"{system}\n").split("\nA:\n")[0]
        for _, prompt, _ in lessons
        for system in systems.FORMS
    }
    theirs = {
        p.question
        for split in ("train", "heldout")
        for p in ArithmeticTask(train_families=world.FAMILIES).problems(split)
    }
    assert len(lessons) == systems.NUM_TAUGHT and not theirs & asked_of
    shares = Counter(
        next((s for s in systems.FORMS if s and asked.startswith(f"{s}\n")), "")
        for _, asked, _ in lessons
    )
    assert (
        set(shares) == set(systems.FORMS)
        and max(shares.values()) - min(shares.values()) < 0.05 * systems.NUM_TAUGHT
    )
    assert systems.lessons() == lessons


def run(needed, skills=0.7, form=1.0, before=0.3):
    def row(number, value):
        scores = {
            f"{f}_{key}": value if f in systems.NEEDED else skills
            for f in world.FAMILIES
            for key in ("greedy", "pass_1")
        }
        families = {
            f"{name}_{key}": form for name in systems.NAMES.values() for key in ("right", "form")
        }
        learnt = {
            "learnt": 800,
            **{f"learnt_{key}": 0.5 for key in ("explanation", "steps", "answer", "right")},
        }
        return {"round": number, "action": "continue", **scores, **families, **learnt}

    return [row(0, before), row(1, needed)]


def of_seeds(*values, **more):
    return {seed: run(value, **more) for seed, value in enumerate(values)}


def test_goals_are_met_by_a_mix_that_doubles_gains_and_obeys_and_missed_otherwise():
    good = of_seeds(0.60, 0.66, 0.63)
    met = study.EXPERIMENT.goals(
        {"plain": of_seeds(0.10, 0.12, 0.11), "mix": good, "mix_unfiltered": good}
    )
    assert [g.met for g in met] == [True] * 5 and met[0].found.value == pytest.approx(5.7, abs=0.3)
    bad = of_seeds(0.31, 0.29, 0.30, form=0.5)
    missed = study.EXPERIMENT.goals(
        {"plain": of_seeds(0.30, 0.12, 0.25), "mix": bad, "mix_unfiltered": bad}
    )
    assert [g.met for g in missed] == [False] * 5
    one_seed = study.EXPERIMENT.goals({"plain": of_seeds(0.1), "mix": of_seeds(0.6)})
    assert [g.met for g in one_seed if g.has_result] == [None, None, None]
    assert not any(g.has_result for g in study.EXPERIMENT.goals({"plain": of_seeds(0.1)}))


def test_the_notes_and_the_figure_show_every_arm_that_there_is():
    from matplotlib.figure import Figure

    found = {"plain": of_seeds(0.1, 0.2), "mix": of_seeds(0.6, 0.7)}
    page = "\n".join(study.EXPERIMENT.notes(found))
    assert (
        "30.0 % greedy" in page
        and "| plain | 50, 50, 50 %; 50 % of 800 | 100 %, 100 % |" in page
        and "`(none)`" in page
    )
    figure = Figure()
    draw(found, figure)
    assert (
        len(figure.axes) == 2
        and len(figure.axes[0].patches) == 4
        and len(figure.axes[1].patches) == 14
    )


def in_form(system, text):
    """The scripted model's text as a system prompt asks for it."""
    if system == systems.ANSWER:
        return text.split("\n")[-1]
    if system == systems.STEPS:
        return text.split("\n", 1)[-1]
    return text


def obeying(plain):
    """The scripted engine's answers, in the form that the system prompt asks for."""

    def answer(request):
        for system in filter(None, systems.FORMS):
            if request.prompt.startswith(f"{system}\n"):
                bare = type(request)(
                    request.id,
                    request.prompt.removeprefix(f"{system}\n"),
                    request.sampling,
                    request.seed,
                )
                return in_form(system, plain(bare))
        return plain(request)

    return answer


@pytest.mark.slow
def test_a_run_is_read_by_family_by_form_and_by_system_prompt(tmp_path):
    from scripted_world import Model
    from scripted_world import carry as carry_scripted
    from scripted_world import recipe as scripted_recipe

    from ouroloop.loop.objectives import training

    model = Model()
    model.engine.answer = obeying(model.engine.answer)
    settings = scripted_recipe(
        rounds=1,
        sampling={"systems": list(systems.FORMS), "problems_per_round": 40},
        filters={"gold": False, "steps": False, "duplicates": "none"},
        refine={"critique": False, "revisions": 0},
        dataset={"size": 100},
        monitors={"guard": False},
    )
    _, path = carry_scripted(tmp_path, model, settings)
    asked = training.weight_sync_of
    try:
        training.weight_sync_of = lambda *what: None
        asyncio.run(measure.ask_under_each(path, model.engine))
    finally:
        training.weight_sync_of = asked
    count = len(model.engine.requests)
    asyncio.run(measure.ask_under_each(path, model.engine))
    assert len(model.engine.requests) == count, "what is there is not asked again"
    first, last = measure.measure(path)
    assert (
        first.keys() == last.keys()
        and math.isnan(first["learnt_answer"])
        and math.isnan(first["none_right"])
    )
    assert (
        last["learnt_explanation"] + last["learnt_steps"] + last["learnt_answer"]
        == pytest.approx(1)
        and last["learnt_steps"] > 0.1
    )
    assert all(
        last[f"{name}_form"] == 1 and last[f"{name}_right"] == 1 for name in systems.NAMES.values()
    ), "greedy, the script is right"
    assert (
        last["sum2_greedy"] == 1
        and last["copy_pass_1"] == last["copy_pass_1"]
        and json.loads((path / "lines.json").read_text())
    )


def test_two_workers_make_a_thing_one_after_the_other(tmp_path):
    made = []

    def slowly(folder):
        if not folder.exists():
            time.sleep(0.1)
            folder.mkdir()
            made.append(folder)
        return folder

    slow = Study("s", {"model": "$thing"}, {"a": {}}, made={"thing": slowly})
    threads = [threading.Thread(target=slow.recipe, args=("a", seed, tmp_path)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@pytest.mark.slow
@pytest.mark.long
def test_the_made_teacher_answers_in_the_form_that_is_asked_for(tmp_path, monkeypatch):
    from ouroloop.loop.engines.registry import ENGINES

    monkeypatch.setattr(systems, "NUM_TAUGHT", 3000)
    monkeypatch.setattr(measure, "NUM_ASKED", 10)
    checkpoint = systems.teach(tmp_path / "made")
    assert systems.teach(tmp_path / "made") == checkpoint
    (tmp_path / "run/rounds/001").mkdir(parents=True)
    (tmp_path / "run/rounds/001/checkpoint").symlink_to(checkpoint)

    async def ask():
        config = resolve({"name": "x", "engine": {"dtype": "float32"}}).engine
        engine = ENGINES["vllm"](config.model_dump(), tmp_path / "engine.log")
        try:
            await measure.ask_under_each(tmp_path / "run", engine)
        finally:
            await engine.close()

    asyncio.run(ask())
    found = json.loads((tmp_path / "run/lines.json").read_text())
    assert (
        all(entry["form"] > 0.8 for entry in found.values())
        and found[""]["right"] > 0.5 > found[systems.ANSWER]["right"]
    )
