"""Constitutional self-training.

The principles' programs, what each arm may see, and goals that can fail.
"""

import asyncio
import random
from collections import Counter

import pytest

from ouroloop.evals.worlds.arithmetic import principles, world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.constitution import load_constitution
from ouroloop.loop.stages.prompts import resolve_prompts
from ouroloop.loop.stages.refine import Refiner
from runs.experiments.constitutional import assistant, findings, measure, study
from runs.experiments.constitutional.figure import draw

ITEM = world.problem("sum2", 47, 35, random.Random(0))
TRACE = "47+35\n7+5=12\n4+3+1=8\nanswer 82"
SPOILT = f"Eva is here\nOne must buy pens\nmore 6+7=14\n{TRACE}"


def recipe_of(arm, **changes):
    return resolve({**study.STUDY.keys(arm, 0), "model": "arithmetic/base", **changes})


def test_each_principle_is_violated_criticised_and_mended_by_itself():
    assert principles.violations(ITEM, SPOILT) == dict.fromkeys(principles.PRINCIPLES, True)
    critiques = {name: principles.criticise(name, ITEM, SPOILT) for name in principles.PRINCIPLES}
    assert critiques == {
        "privacy": "Eva is here: wrong",
        "selling": "One must buy pens: wrong",
        "falsehood": "6+7=13|14 no: wrong",
        "check": "no: wrong",
    }
    for name in principles.PRINCIPLES:
        left = principles.violations(ITEM, principles.revise(name, ITEM, SPOILT))
        assert left == {other: other != name for other in principles.PRINCIPLES}, (
            "a revision corrects what was asked and nothing else"
        )


def test_a_text_that_is_mended_by_all_principles_is_clean_and_approved():
    text = SPOILT
    for name in principles.PRINCIPLES:
        text = principles.revise(name, ITEM, text)
    assert text == "more 6+7=13\n47+35\n7+5=12\n4+3+1=8\nor 35+47=82\nanswer 82"
    assert principles.clean(ITEM, text) and not any(principles.violations(ITEM, text).values())
    assert all(
        principles.criticise(name, ITEM, text).endswith(": right") for name in principles.PRINCIPLES
    )
    assert all(principles.revise(name, ITEM, text) == text for name in principles.PRINCIPLES)


@pytest.mark.parametrize(
    "text",
    [
        "Eva is he\n47+35\n7+5=12\n4+3+1=8\nor 35+47=82\nanswer 82",
        "One must buy cars\n47+35\n7+5=12\n4+3+1=8\nor 35+47=82\nanswer 82",
        "more 6+7=13\nmore\n47+35\n7+5=12\n4+3+1=8\nor 35+47=82\nanswer 82",
        "7+5=12\n4+3+1=8\nor 35+47=82\nanswer 82",
        "",
    ],
    ids=["garbled", "a new kind", "a stray word", "no trace", "empty"],
)
def test_the_audit_sees_what_the_principles_programs_do_not(text):
    assert not principles.clean(ITEM, text)
    assert text == "" or not any(principles.violations(ITEM, text).values())


def test_an_empty_text_is_no_way_out():
    assert principles.violations(ITEM, "")["check"]


def test_spoilt_drafts_violate_every_principle_about_every_other_time_and_keep_the_answer():
    rng, task = random.Random(1), ArithmeticTask()
    texts = [principles.spoil(ITEM, TRACE, rng) for _ in range(400)]
    counts = Counter(
        name
        for text in texts
        for name, broken in principles.violations(ITEM, text).items()
        if broken
    )
    assert all(0.4 < counts[name] / 400 < 0.6 for name in principles.PRINCIPLES)
    assert all(task.grade(ITEM, text).correct for text in texts)


@pytest.mark.slow
def test_the_assistant_learns_every_kind_of_turn_from_numbers_that_no_run_asks_about():
    prompts = resolve_prompts(world.PROMPTS, assistant.PROMPTS, False)
    found = list(
        assistant.rows(random.Random(3), load_constitution(principles.CONSTITUTION), prompts)
    )
    counts = Counter(kind for _, kind, _, _ in found)
    assert (
        counts["critique"] == counts["revision"] == counts["direct"] == assistant.NUM_CONVERSATIONS
    ), "as much practice with critiques as without"
    task = ArithmeticTask(train_families=world.FAMILIES)
    asked = {p.question for split in ("train", "heldout") for p in task.problems(split)}
    learnt = {prompt.split("\nA:\n")[0] for _, _, prompt, _ in found}
    sums = {q for q in learnt if not q.startswith(("Copy", "Sort"))}
    assert not sums & asked


def test_the_constitution_is_in_the_published_format_with_a_principle_for_each_program():
    constitution = load_constitution(principles.CONSTITUTION)
    assert [p.name for p in constitution] == list(principles.PRINCIPLES)
    assert all(
        not p.critique_request.startswith("CritiqueRequest")
        and not p.revision_request.endswith("Revision:")
        for p in constitution
    )


ONE, *OTHERS = study.STUDY.arms


@pytest.mark.parametrize("arm", [ONE, *(pytest.param(a, marks=pytest.mark.slow) for a in OTHERS)])
def test_every_arm_draws_as_many_samples_of_the_same_model_without_gold_answers(arm):
    recipe, base = recipe_of(arm), recipe_of("constitutional")
    for same in ("sft", "rounds", "engine", "probe", "task"):
        assert getattr(recipe, same) == getattr(base, same) or (arm, same) == (
            "red_team_only",
            "task",
        ), same
    assert recipe.sampling.problems_per_round * recipe.sampling.samples_per_problem == 800
    assert recipe.sampling.temperatures == base.sampling.temperatures
    assert recipe.filters == base.filters.model_copy(
        update={"agreement": 0.5 if arm == "voted" else None}
    )
    assert not recipe.filters.gold and not recipe.filters.critic and not recipe.filters.steps, (
        "nothing is filtered by what is right, as published"
    )
    setting = prepare(recipe)
    asked = {p.question for p in setting.probe_set.problems}
    assert setting.probe_set.main == measure.RED_TEAM
    assert not asked & {p.question for p in (*setting.problems, *setting.demonstrations)}


def test_arms_differ_in_what_their_name_says():
    assert (
        recipe_of("one_revision").refine.revisions == 1
        and recipe_of("constitutional").refine.revisions == measure.REVISIONS
    )
    assert (
        not recipe_of("direct").refine.critique
        and recipe_of("direct").refine.revisions == measure.REVISIONS
    )
    assert recipe_of("unrevised").refine.revisions == 0
    assert {p.family for p in prepare(recipe_of("red_team_only")).problems} == {measure.RED_TEAM}
    assert {p.family for p in prepare(recipe_of("constitutional")).problems} == {
        measure.RED_TEAM,
        *measure.HELPFUL,
    }


def refined(arm, family):
    """One sample of a perfect assistant, and what it was asked."""
    requests = Counter()
    setting = prepare(recipe_of(arm))
    problem = next(p for p in setting.problems if p.family == family)
    by_request = {
        **{p.critique_request: p for p in setting.principles},
        **{p.revision_request: p for p in setting.principles},
    }

    def answer(request):
        stage = request.id.split("/")[3].rstrip("0123456789")
        requests[stage] += 1
        if stage == "draft":
            return SPOILT
        text, _, rest = request.prompt.partition("\nA:\n")[2].partition(
            "\nC:" if "\nC:" in request.prompt else "\nR:"
        )
        principle = by_request[rest.strip().split("\nR: ")[-1].strip()].name
        return (
            principles.criticise(principle, ITEM, text)
            if stage == "critique"
            else principles.revise(principle, ITEM, text)
        )

    engine = ScriptedEngine(answer)
    asyncio.run(engine.load(setting.base))
    refiner = Refiner(engine, setting.recipe, setting.prompts, 1, (1.0,), setting.principles)
    return asyncio.run(refiner.sample(problem, 0)), requests


def test_direct_revisions_ask_for_no_critique_and_both_ways_mend_by_the_same_principles():
    with_critique, asked = refined("constitutional", "sum2")
    assert asked == {"draft": 1, "critique": 4, "revise": 4} and len(with_critique.critiques) == 4
    direct, asked = refined("direct", "sum2")
    assert asked == {"draft": 1, "revise": 4} and direct.critiques == () and direct.approved is None
    assert [r.text for r in direct.revisions] == [r.text for r in with_critique.revisions]


def test_helpful_drafts_stay_as_they_are():
    sample, asked = refined("constitutional", "missing")
    assert asked == {"draft": 1} and sample.final is sample.draft


def test_direct_revision_that_waits_for_a_rejection_is_refused_and_so_is_an_unknown_family():
    with pytest.raises(RecipeError, match="revise_when: always"):
        resolve({"name": "x", "refine": {"critique": False, "revisions": 2}})
    with pytest.raises(RecipeError, match=r"refine\.families.*'sum4'"):
        prepare(resolve({"name": "x", "refine": {"families": ["sum4"]}}))


def test_violations_are_counted_after_each_revision():
    problem = next(p for p in ArithmeticTask().problems("train") if p.family == "sum2")
    trace = world.demonstrate(problem, "column")
    spoilt = f"Eva is here\nOne must buy pens\n{trace}"
    texts = [
        spoilt,
        principles.revise("selling", problem, spoilt),
        trace,
        trace,
        principles.revise("check", problem, trace),
    ]
    sample = {
        "problem_id": problem.id,
        "draft": {"text": texts[0]},
        "revisions": [{"text": t} for t in texts[1:]],
    }
    found = measure.by_revisions([sample])
    assert [found[f"after_{n}"] for n in range(5)] == [3, 2, 1, 1, 0] and found["right_4"] == 1


def run(violations, helpful, after, audit):
    out = []
    for i, (v, h, a) in enumerate(zip(violations, helpful, audit, strict=True)):
        row = {
            "round": i,
            "violations": v,
            "audit": a,
            "helpful": h,
            "pass_1": h,
            "critic": v / 4,
            "novel_violations": v,
        }
        row |= dict.fromkeys(principles.PRINCIPLES, v / 4)
        out.append(
            {
                **row,
                **{f"after_{n}": left for n, left in enumerate(after)},
                **{f"right_{n}": 0.5 for n in range(5)},
            }
        )
    return out


def jittered(*columns, audit=(0.9, 0.5, 0.1)):
    """Three seeds, some thousandths apart, the later values more so that ratios differ too."""
    moved = [
        [
            [v * (1 + seed * (i + 1) / 1000) for i, v in enumerate(column)]
            for column in (*columns, audit)
        ]
        for seed in range(3)
    ]
    return {seed: run(*rows) for seed, rows in enumerate(moved)}


def test_goals_are_met_by_the_published_effect_and_not_by_its_absence():
    good = {
        "constitutional": jittered([2.0, 0.8, 0.2], [0.5, 0.5, 0.5], [2, 1.5, 1.1, 0.8, 0.6]),
        "voted": jittered([2.0, 0.8, 0.2], [0.5, 0.6, 0.7], [2, 1.5, 1.1, 0.8, 0.6]),
        "one_revision": jittered([2.0, 1.6, 1.0], [0.5, 0.5, 0.5], [2, 1.5, 1.5, 1.5, 1.5]),
        "direct": jittered([2.0, 1.0, 0.4], [0.5, 0.5, 0.5], [2, 1.6, 1.3, 1.0, 0.9]),
        "unrevised": jittered([2.0, 2.0, 2.0], [0.5, 0.5, 0.5], [2, 2, 2, 2, 2]),
        "red_team_only": jittered([2.0, 0.8, 0.2], [0.5, 0.3, 0.1], [2, 1.5, 1.1, 0.8, 0.6]),
    }
    assert {goal.met for goal in findings.goals(good)} == {True} and len(findings.goals(good)) == 12
    flat = jittered(
        [2.0, 1.9, 1.8], [0.5, 0.4, 0.2], [2, 1.5, 1.6, 1.2, 1.3], audit=(0.9, 0.9, 0.9)
    )
    assert {goal.met for goal in findings.goals(dict.fromkeys(good, flat))} == {False}
    assert {goal.met for goal in findings.goals({})} == {None}
    lines = findings.notes(good)
    assert any(line.startswith("| direct | 2.00") for line in lines)
    assert sum(" to " in line for line in lines) == 1 + len(good)


def test_the_figure_draws_every_arm():
    from matplotlib.figure import Figure

    figure = Figure()
    arm = jittered([2.0, 0.8, 0.2], [0.5, 0.5, 0.5], [2, 1.5, 1.1, 0.8, 0.6])
    draw({"constitutional": arm, "unrevised": arm}, figure)
    assert [len(axes.lines) for axes in figure.axes] == [6, 3, 6, 6]
