"""The study of a real model: demonstrations in several ways, arms, what is looked at beyond."""

import asyncio
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ouroloop.evals.questions import normalised
from ouroloop.loop.experiments import afterwards, results, rounds
from ouroloop.loop.experiments.study import merge
from ouroloop.loop.experiments.worker import Worker
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.real_model import arms, beyond, data, findings, warm_start
from runs.experiments.real_model import study as study_module
from runs.experiments.real_model.figure import draw
from runs.experiments.real_model.notes import OVER_ROUNDS, notes

STUDY = study_module.STUDY
needs_data = pytest.mark.skipif(
    not data.TRAIN.exists(),
    reason="no word problems: point OUROLOOP_DATA at a folder with wordproblems/ in it",
)


# -- the study --------------------------------------------------------------------------------


@pytest.mark.slow
@needs_data
def test_every_arm_asks_asdiv_alone_and_differs_only_in_what_it_says(tmp_path):
    problems = str(data.problems(tmp_path))
    questions = set()
    for arm in STUDY.arms:
        keys = STUDY.keys(arm, 1)
        keys["model"], keys["task"]["path"] = "arithmetic/base", problems
        keys["task"]["prompts"] = {**arms.PROMPTS, "chat": False}
        setting = prepare(resolve(keys))
        assert {p.family for p in setting.probe_set.problems} == {"asdiv"}
        assert setting.recipe.rounds == 8 and setting.recipe.monitors.guard == arm.startswith(
            "guarded"
        )
        assert setting.recipe.dataset.replay_fraction == (0.3 if arm.endswith("_30") else 0.0)
        assert (setting.recipe.lora is None) == (arm != "adapter"), "all weights are trained"
        questions.add(tuple(p.id for p in setting.probe_set.problems))
    assert len(questions) == 1, "all arms are measured on the same problems"


@pytest.mark.slow
@needs_data
def test_the_warm_start_sees_no_held_out_question_and_no_reserved_demonstration(tmp_path):
    source = data.problems(tmp_path)
    lessons = warm_start.lessons(source)
    taught = {normalised(prompt[0]["content"]) for _, prompt, _ in lessons}
    assert len(taught) == warm_start.NUM_PROBLEMS < len(lessons)
    task = warm_start.jsonl_task(source, data.HELDOUT)
    for split in ("heldout", "reserve"):
        assert not taught & {normalised(p.question) for p in task.problems(split)}


def test_dcp_of_counted_samples_is_the_share_of_pairs_that_are_right_and_differ():
    assert beyond._dcp(4, ["a", "b"]) == pytest.approx(2 / 12)
    assert beyond._dcp(4, ["a", "a", "a", "a"]) == 0
    assert beyond._dcp(3, ["a", "b", "c"]) == pytest.approx(1)
    assert beyond._dcp(3, []) == 0


def small(monkeypatch, tmp_path, task):
    """Looks at few problems; SVAMP and the prose come from files of the small world's own."""
    others = [p for p in task.problems("heldout") if p.family == "sum2"][-6:]
    svamp, prose = tmp_path / "svamp.jsonl", tmp_path / "prose.jsonl"
    lines = [json.dumps({"id": p.id, "question": p.question, "answer": p.answer}) for p in others]
    svamp.write_text("\n".join(lines), encoding="utf-8")
    prose.write_text("\n".join(lines), encoding="utf-8")
    for name, value in {
        "SAMPLES": 16,
        "NUM_PROBLEMS": 10,
        "SVAMP": svamp,
        "PROSE": prose,
    }.items():
        monkeypatch.setattr(beyond, name, value)


@pytest.mark.slow
def test_a_finished_run_is_looked_at_at_both_ends_once_and_its_weights_go(tmp_path, monkeypatch):
    from scripted_world import TASK, Model, carry, recipe

    small(monkeypatch, tmp_path, TASK)
    monkeypatch.setattr(beyond.Look, "pass_at", _pass_at_16)
    monkeypatch.setattr(afterwards.training, "weight_sync_of", lambda checkpoint, *rest: checkpoint)
    model = Model(skill=lambda number: (0.4, 0.5, 0.7)[number])
    settings = recipe(name="scripted-0", rounds=2, monitors={"guard": False, "baselines": [0]})
    _, path = carry(tmp_path, model, settings)
    assert all(math.isnan(found["far_dcp"]) for found in beyond.table(path))
    model.engine.requests.clear()
    asyncio.run(beyond.look(path, model.engine))
    drawn = len(model.engine.requests)
    assert drawn == 2 * (10 * 16 + 6 * beyond.SVAMP_SAMPLES)
    probed = {each["problem"] for each in beyond.read_run(path).rounds[0].probe.to_dict("records")}
    asked = {request.id.split("/")[2] for request in model.engine.requests}
    assert len(asked) == 16 and not asked & probed, "other problems than the probe set's"
    before, between, after = beyond.table(path)
    assert math.isnan(between["far_pass_1"]) and before["far_pass_64_change"] == 0
    assert before["far_pass_1"] == pytest.approx(0.4, abs=0.12)
    assert after["far_pass_1"] == pytest.approx(0.7, abs=0.12)
    assert after["far_dcp_low"] < after["far_dcp_change"] < after["far_dcp_high"]
    assert before["prose_nll"] > 0 and after["probe_tokens"] > 0
    assert 0 < after["text_variety"] <= 1
    assert not list(path.glob("rounds/*/checkpoint"))
    asyncio.run(beyond.look(path, model.engine))
    assert len(model.engine.requests) == drawn, "what is there is not asked again"
    # Beside a plain arm that ended as this one began, all that changed is the difference.
    plain = path.with_name("unguarded-0")
    plain.mkdir()
    shutil.copy(path.parent / "looks" / "0.json", plain / "look-002.json")
    before, _, beside = beyond.table(path)
    assert math.isnan(before["far_dcp_over_change"]) and math.isnan(after["far_dcp_over_change"])
    for part in ("change", "low", "high"):
        assert beside[f"far_pass_1_over_{part}"] == after[f"far_pass_1_{part}"]


def _pass_at_16(self, k, family="far"):
    """pass@min(k, 16): the small world's looks hold 16 samples."""
    counts = getattr(self, family)
    right = np.array([each.right for each in counts.values()], dtype=float)
    num = np.array([each.num for each in counts.values()], dtype=float)
    found = beyond.pass_at_k(right, num, min(k, int(num.min())))
    return dict(zip(counts, found.tolist(), strict=True))


# -- goals and figure on made-up rows ---------------------------------------------------------


def runs(pass_1, dcp_change=-0.1, pass_64_change=-0.05, seeds=3, over=0.0):
    def one(number, value, seed):
        curve = {f"far_pass_{k}": value + 0.05 * i for i, k in enumerate(beyond.KS)}
        changes = {
            f"far_{name}_{part}": number * (change + shift)
            for name, change in (
                ("dcp", dcp_change),
                ("pass_64", pass_64_change),
                ("pass_1", pass_1 - 0.2),
                ("pass_1_over", over),
                ("dcp_over", -over),
            )
            for part, shift in (("change", 0), ("low", -0.02), ("high", 0.02))
        }
        values = {"pass_1": value + 0.002 * seed, "dcp": 0.1, "overconfidence": 0.1 * number}
        values["pass_k"] = 2 * value
        counts = {"round": float(number), "tokens": 900.0 * number, "probe_tokens": 300.0}
        return {**curve, **changes, **values, **counts, "far_dcp": value, "action": "continue"}

    return {seed: [one(0, 0.2, 0), one(1, pass_1, seed)] for seed in range(seeds)}


def test_goals_are_met_or_missed_as_the_rows_say():
    results = {"unguarded": runs(0.3), "guarded": runs(0.3, 0.0, 0.03, over=0.02)}
    found = {goal.asks.split(" (")[0]: goal.met for goal in findings.goals(results)}
    assert found["unguarded gains pass@1, paired by problem"] is True
    assert found["unguarded loses pass@64, paired by problem"] is True
    assert found["unguarded loses DCP, paired by problem"] is True
    assert found["guarded over unguarded: pass@1, paired by problem"] is True
    assert found["guarded over unguarded: DCP, paired by problem"] is False
    even = {"unguarded": runs(0.3, dcp_change=0.01), "guarded": runs(0.2, over=-0.1)}
    found = {goal.asks.split(" (")[0]: goal.met for goal in findings.goals(even)}
    assert found["unguarded loses DCP, paired by problem"] is False
    assert found["guarded over unguarded: pass@1, paired by problem"] is False
    assert found["critique and revision over as many tokens without: pass@1"] is None


def test_the_page_shows_changes_curves_and_rounds_of_the_arms_that_are_there():
    full = {name: math.nan for name, _ in OVER_ROUNDS.values()} | dict.fromkeys(beyond.FAR, 0.5)
    made = {arm: runs(0.3, seeds=2, over=0.05) for arm in ("unguarded", "guarded")}
    results = {
        arm: {seed: [{**full, **row} for row in run] for seed, run in of.items()}
        for arm, of in made.items()
    }
    results["guarded"][1] = results["guarded"][1][:1]
    text = "\n".join(notes(results))
    assert "| unguarded | 10.0 [8.0, 12.0] % | -5.0 [-7.0, -3.0] % |" in text
    # Of the guarded arm's two runs one has no round yet that differs.
    assert text.count("| guarded | 2.5 [1.5, 3.5] %") == 1
    assert text.count("| unguarded | 5.0 [3.0, 7.0] %") == 0, "the plain arm is not beside itself"
    assert "| round 0 | 20.0 [20.0, 20.0] % |" in text
    assert "| unguarded | pass@1 | 20.0 | 30.1 |" in text
    assert "| guarded | decision, seed 1 | continue |  |" in text
    assert notes({})


def test_the_share_of_the_watching_counts_the_probe_sets_tokens():
    (run,) = runs(0.3, seeds=1).values()
    assert findings.watching(run) == pytest.approx(600 / 1500)


def test_the_curves_are_drawn_from_the_arms_that_are_there():
    figure = Figure()
    draw({"unguarded": runs(0.3), "guarded": runs(0.25)}, figure)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["unguarded", "guarded", "round 0"]
    assert len(figure.axes) == 4


# -- the whole way on a checkpoint of a few thousand parameters -------------------------------

CHATML = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_goes_from_the_warm_start_to_its_rows(tmp_path, monkeypatch):
    sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
    from tiny import save_tiny_llama

    tiny = save_tiny_llama(tmp_path / "tiny", tied=True)
    (tiny / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    monkeypatch.setattr(warm_start, "MODEL", str(tiny))
    monkeypatch.setattr(warm_start, "NUM_PROBLEMS", 12)
    for name, value in {
        "SAMPLES": 64,
        "NUM_PROBLEMS": 2,
        "SVAMP_PROBLEMS": 2,
        "NUM_PROSE": 3,
    }.items():
        monkeypatch.setattr(beyond, name, value)
    small = {
        "rounds": 1,
        "engine": {"kind": "transformers", "max_num_seqs": 64},
        "sampling": {"problems_per_round": 4, "max_tokens": 24},
        "probe": {"problems": 3, "baseline_samples": 8, "texts": 3},
    }
    study = replace(STUDY, base=merge(arms.BASE, small))
    worker = Worker(study, tmp_path / "runs", quick=False)
    number = asyncio.run(one_run(worker))
    rows = rounds.read(results.table_of(tmp_path / "runs" / "tables", ("unguarded", 0)))
    assert number == len(rows) >= 1
    assert (tmp_path / "runs" / "made" / "warm" / "train.json").exists()
    # Random weights solve nothing: what counts is that every number is there, and none is made up.
    assert rows[0]["far_pass_64"] == 0 and rows[0]["svamp_pass_1"] == 0
    assert rows[0]["prose_nll"] > 1 and rows[0]["probe_tokens"] > 0
    assert rows[-1]["far_pass_64_change"] == 0


async def one_run(worker):
    try:
        return await worker.one("unguarded", 0)
    finally:
        await worker.close()
