"""Distillation's keys on the scripted engine.

Who drafts, gold traces, final answers alone, a fixed size, chosen families.
"""

from dataclasses import replace

import pytest
from scripted_world import TASK, Model, carry, recipe

from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.errors import RecipeError, UserError
from ouroloop.loop.folder.store import read_json, read_rows
from ouroloop.loop.setup import prepare

ONE = {
    "rounds": 1,
    "probe": {
        "problems": 8,
        "family_problems": 1,
        "samples": 2,
        "baseline_samples": 2,
        "critiques": 0,
        "pass_at": 2,
        "majority": 2,
    },
}


def examples_of(path):
    return read_rows(path / "rounds" / "001" / "examples.parquet")


def keys(rows):
    return sorted((row["sample_id"] or "", row["problem_id"]) for row in rows)


@pytest.mark.slow
def test_gold_traces_alone_are_trained_on_without_any_sampling(tmp_path):
    _, path = carry(
        tmp_path, Model(), recipe(**ONE, sampling={"student": False}, dataset={"gold": True})
    )
    rows = examples_of(path)
    items = {p.id: p for p in TASK.problems("train")}
    assert len(rows) == 25 and {r["origin"] for r in rows} == {"gold"}
    assert all(
        r["text"] == items[r["problem_id"]].solution
        and TASK.grade(items[r["problem_id"]], r["text"]).correct
        for r in rows
    )
    assert {r["strategy"] for r in rows} > {"column", "split"}
    assert read_json(path / "rounds" / "001" / "train.json")["status"] == "trained"
    assert not (path / "rounds" / "001" / "samples.jsonl").read_text()


@pytest.mark.slow
def test_what_is_asked_under_system_prompts_is_learnt_with_or_without_them(tmp_path):
    def model():
        made = Model()
        plain = made.engine.answer
        made.engine.answer = lambda r: plain(replace(r, prompt=r.prompt.removeprefix("Explain.\n")))
        return made

    keys = {
        **ONE,
        "sampling": {"systems": ["", "Explain."], "temperatures": [0.7, 1.0]},
        "refine": {"critique": False, "revisions": 0},
    }
    drafted = model()
    _, with_them = carry(tmp_path / "a", drafted, recipe(**keys))
    drafts = [request for request in drafted.engine.requests if "/draft/" in request.id]
    pairs = {(r.prompt.startswith("Explain."), r.sampling.temperature) for r in drafts}
    assert len(pairs) == 4, "every system prompt goes with every temperature"
    _, erased = carry(tmp_path / "b", model(), recipe(**keys, dataset={"erase_systems": True}))
    asked = [
        [bytes(row["prompt_token_ids"]).decode() for row in examples_of(path)]
        for path in (with_them, erased)
    ]
    assert any(prompt.startswith("Explain.\n") for prompt in asked[0]) and not all(
        prompt.startswith("Explain.\n") for prompt in asked[0]
    )
    assert [prompt.removeprefix("Explain.\n") for prompt in asked[0]] == asked[1]


@pytest.mark.slow
def test_gold_traces_join_samples_of_the_same_problems_and_size_bounds_the_samples_only(tmp_path):
    _, path = carry(
        tmp_path, Model(skill=lambda n: 0.9), recipe(**ONE, dataset={"gold": True, "size": 30})
    )
    rows = examples_of(path)
    by_origin = {o: [r for r in rows if r["origin"] == o] for o in ("gold", "kept")}
    assert len(by_origin["gold"]) == 25 and len(by_origin["kept"]) == 30 and len(rows) == 55
    assert {r["problem_id"] for r in by_origin["kept"]} <= {
        r["problem_id"] for r in by_origin["gold"]
    }


@pytest.mark.slow
def test_answers_alone_are_the_final_answers_of_the_same_samples(tmp_path):
    _, traces = carry(tmp_path / "a", Model(), recipe(**ONE))
    _, answers = carry(
        tmp_path / "b",
        Model(),
        recipe(**ONE, dataset={"target": "answer", "replay_fraction": 0.25}),
    )
    _, mixed = carry(tmp_path / "c", Model(), recipe(**ONE, dataset={"replay_fraction": 0.25}))
    items = {p.id: p for p in (*TASK.problems("train"), *TASK.problems("reserve"))}
    short = examples_of(answers)
    assert all(r["text"] == f"answer {items[r['problem_id']].answer}" for r in short) and {
        r["origin"] for r in short
    } == {"kept", "demonstration"}
    assert keys(short) == keys(examples_of(mixed))
    assert {tuple(r["prompt_token_ids"]) for r in short if r["origin"] == "kept"} == {
        tuple(r["prompt_token_ids"]) for r in examples_of(traces)
    }
    assert max(len(r["completion_token_ids"]) for r in short) < min(
        len(r["completion_token_ids"]) for r in examples_of(traces)
    )


@pytest.mark.slow
def test_only_the_teachers_draft_when_the_student_does_not(tmp_path):
    _, path = carry(
        tmp_path,
        Model(),
        recipe(**ONE, sampling={"student": False}, teachers=["arithmetic/teacher"]),
    )
    assert {r["sample_id"].split("/")[1] for r in examples_of(path)} == {"teacher0"}


def test_the_loop_practises_on_the_families_that_the_recipe_names():
    setting = prepare(recipe(task={"kind": "arithmetic", "families": ["sum3", "multibuy"]}))
    assert {p.family for p in setting.problems} == {
        "sum3",
        "multibuy",
    } and setting.probe_set.main == "sum3"
    assert {p.family for p in prepare(recipe()).problems} == {"sum2"}
    assert not {p.question for p in setting.problems} & {
        p.question for p in setting.probe_set.problems
    }


def test_gold_traces_change_no_problem():
    with_gold, held = ArithmeticTask().problems("train"), ArithmeticTask().problems("heldout")
    assert all(p.solution for p in with_gold) and not any(p.solution for p in held)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampling": {"student": False}}, "nobody drafts"),
        ({"task": {"kind": "arithmetic", "families": ["sum9"]}}, "sum9"),
        ({"task": {"prompts": {"answer": "the answer"}}}, "{answer}"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_before_anything_is_made(changes, says):
    with pytest.raises((RecipeError, UserError)) as caught:
        prepare(recipe(**changes))
    assert says in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["demonstrations", "baseline"])
def test_what_is_replayed_is_real_data_or_what_round_0s_model_drafted(tmp_path, source):
    settings = recipe(
        **{**ONE, "rounds": 3},
        monitors={"guard": False},
        dataset={"replay_fraction": 0.3, "replay_source": source},
    )
    _, path = carry(tmp_path, Model(), settings)
    origins = {"demonstrations": "demonstration", "baseline": "baseline"}
    found = []
    for number in (1, 2, 3):
        rows = read_rows(path / "rounds" / f"{number:03d}" / "examples.parquet")
        replayed = [row for row in rows if row["origin"] != "kept"]
        assert {row["origin"] for row in replayed} <= {origins[source]}
        found.append(len(replayed) / len(rows))
        if source == "baseline":
            assert {row["round"] for row in replayed} <= {1}, "round 0's model drafted in round 1"
    # In round 1 all samples are round 0's model's, and there is nothing to replay beside them.
    assert found[0] == (0 if source == "baseline" else pytest.approx(0.3, abs=0.02))
    assert found[1:] == [pytest.approx(0.3, abs=0.02)] * 2
