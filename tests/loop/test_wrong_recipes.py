"""A wrong recipe gives one clear message and exit code 2, and leaves nothing half-made."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.models.names import EMBEDDED
from ouroloop.loop.setup import resolve_model

BASE = {"name": "wrong", "rounds": 1}
BASE_MODEL = resolve_model("arithmetic/base")


def attempt(tmp_path, capsys, recipe, *more):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe))
    runs = tmp_path / "runs"
    code = main(["run", str(path), "--runs", str(runs), *more])
    captured = capsys.readouterr()
    assert not runs.exists(), "something was made"
    assert "Traceback" not in captured.err
    assert captured.err.startswith("ouroloop: ")
    return code, captured.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sampling": {"temprature": 1.0}}, "Did you mean 'temperatures'?"),
        ({"modle": "x"}, "Did you mean 'model'?"),
        ({"rounds": 0}, "greater than or equal to 1, got 0"),
        ({"rounds": "many"}, "rounds: expected a whole number"),
        ({"rounds": True}, "rounds: expected a number, got True"),
        ({"sampling": {"top_p": True}}, "sampling.top_p: expected a number, got True"),
        ({"keep": {"last": True}}, "keep.last: expected a number, got True"),
        ({"sampling": {"temperatures": 1.0}}, "temperatures: expected a list, got 1.0"),
        ({"pairs": {"sources": []}}, "pairs.sources: expected at least one entry"),
        ({"private": "maybe"}, "private: expected true or false, got 'maybe'"),
        ({"filters": {"extra": [{"use": "x", "option": {}}]}}, "Did you mean 'options'?"),
        (
            {"task": {"kind": "jsonl", "path": "x", "grader": {"use": "x", "option": {}}}},
            "unknown key 'task.grader.option'. Did you mean 'options'?",
        ),
        ({"keep": {"last": -1}}, "keep.last: expected greater than or equal to 0, or 'auto' or"),
        ({"keep": {"last": "none"}}, "or 'auto' or 'all', got 'none'"),
        ({"peft": 3}, "peft: expected a mapping of keys, or 'auto', got 3"),
        ({"filters": 3}, "filters: expected a section, got 3"),
        ({"judge": {"items": 3}}, "judge.items: expected a path, got 3"),
        ({"tracking": {"trackers": [3]}}, "trackers.0: expected a name, or {use: name, options"),
        ({"sampling": {"temperatures": [3.0]}}, "[0, 2]"),
        ({"dataset": {"replay_fraction": 1.0}}, "less than 1, got 1.0"),
        ({"probe": {"samples": 4, "majority": 8}}, "cannot exceed probe.samples"),
        ({"refine": {"critique": False, "revisions": 1}}, "needs refine.critique"),
        ({"task": {"kind": "jsonl"}}, "task.path is missing: file of training problems"),
        (
            {"task": {"kind": "gsm9k", "path": "x"}},
            "no task is called 'gsm9k'. Did you mean 'gsm8k'?",
        ),
        ({"task": {"path": "x.jsonl"}}, "unknown key 'task.path'"),
        (
            {"task": {"kind": "dataset", "path": "x.csv", "columns": {"anser": "a"}}},
            "unknown key 'task.columns.anser'. Did you mean 'answer'?",
        ),
        ({"task": {"kind": "dataset", "path": "nobody/nothing"}}, "no hub answers"),
        ({"task": {"kind": "jsonl", "path": "x", "loophole": True}}, "unknown key 'task.loophole'"),
        (
            {"engine": {"kind": "vlm"}},
            "engine.kind: no engine is called 'vlm'. Did you mean 'vllm'?",
        ),
        ({"objective": "sf"}, "objective: no objective is called 'sf'. Did you mean 'sft'?"),
        ({"task": {"kind": "jsonl", "path": "nowhere.jsonl"}}, "nowhere.jsonl"),
        ({"model": "no/such/checkpoint"}, "no/such/checkpoint"),
        ({"name": "../escape"}, "name: expected at most 64 letters, digits and any of . _ -"),
        ({"model": "http://127.0.0.1:1/v1#m"}, "a server, which cannot be trained"),
        ({"teachers": ["http://127.0.0.1:1/v1"]}, "no model is named"),
        pytest.param(  # asked again after a pause
            {"teachers": ["http://127.0.0.1:1/v1#m"]}, "no server answers", marks=pytest.mark.slow
        ),
        ({"refine": {"constitution": "none.json"}}, "no such file (refine.constitution)"),
        ({"sft": {"learning_rat": 1e-4}}, "learning_rate"),
        ({"task": {"kind": "arithmetic", "prompts": {"draft": "no field"}}}, "{question}"),
        ({"task": {"kind": "arithmetic", "prompts": {"chat": True}}}, "no chat template"),
        (
            {"task": {"kind": "arithmetic", "prompts": {"approve": "ok", "reject": " OK"}}},
            "task.prompts.approve and task.prompts.reject: got 'ok' for both",
        ),
        ({"filters": {"min_tokens": 9, "max_tokens": 8}}, "is more than filters.max_tokens: 8"),
        ({"filters": {"min_tokens": 999}}, "is more than sampling.max_tokens"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_remedy(tmp_path, capsys, change, says):
    code, message = attempt(tmp_path, capsys, {**BASE, **change})
    assert code == 2
    assert says in message
    # One line for each key, in a recipe's words: pydantic's and Python's names are nobody's keys.
    assert not re.search(
        r"constrained|literal\[|dict\[|<class|instance of|Input should|tuple", message
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a list", "expected a mapping"),
        ("a: [", "not a readable YAML"),
        ("", "expected a mapping"),
        ("seed: 2024-13-45", "'2024-13-45' cannot be read (month must be in 1..12)"),
        (f"seed: {'1' * 5000}", "cannot be read (Exceeds the limit"),
        (f"sft: {{a: {'[' * 3000}{']' * 3000}}}", "too deep in one another"),
        ("sft: &x {a: *x}", "Circular reference"),
        ("sft: {2024-01-05: 1}", "cannot be kept as JSON"),
        ('task: {kind: dataset, path: "a\\0b.csv"}', "no path holds the character \\0"),
        ("task: {kind: dataset, path: '${NOPE}/x.csv'}", "Set it, e.g. `export NOPE=/path"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, capsys, text, says):
    code, message = attempt(tmp_path, capsys, text)
    assert code == 2 and says in message


@pytest.mark.parametrize(
    "change",
    [
        {"task": {"kind": "arithmetic", "prompts": {"draft": "{qestion}"}}},
        {"sft": {"num_train_epoch": 2}},
        {"filters": {"gold": False, "critic": True}, "refine": {"critique": False, "revisions": 0}},
        {"peft": {"r": 0}},
        {"sft": {"learning_rate": "1e-4"}},
        {"modle": "x"},
    ],
)
@pytest.mark.parametrize("more", [(), ("--check",)])
def test_every_wrong_key_or_value_names_its_file_once(tmp_path, capsys, change, more):
    code, message = attempt(tmp_path, capsys, {**BASE, **change}, *more)
    file = str(tmp_path / "recipe.yaml")
    assert code == 2 and message.startswith(f"ouroloop: {file}: ") and message.count(file) == 1
    assert main(["plan", file]) == 2
    assert capsys.readouterr().err == message


def test_an_overriding_value_that_cannot_be_read_is_refused(tmp_path, capsys):
    code, message = attempt(tmp_path, capsys, BASE, "--set", "seed=2024-13-45")
    assert code == 2 and "--set seed=2024-13-45: the value is not YAML" in message


def test_a_missing_recipe_is_named(tmp_path, capsys):
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    assert "no such recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "problems.jsonl"),
        (['{"question": "1+1?", "answer": "2"}', "{oops"], ":2"),
        (['{"question": "1+1?", "answer": "2"}', '{"answer": "2"}'], ":2"),
    ],
)
def test_a_problem_file_is_refused_with_file_and_line(tmp_path, capsys, lines, says):
    (tmp_path / "problems.jsonl").write_text("".join(line + "\n" for line in lines))
    code, message = attempt(
        tmp_path, capsys, {**BASE, "task": {"kind": "jsonl", "path": "problems.jsonl"}}
    )
    assert code == 2 and "problems.jsonl" in message and says in message


def test_a_tokenizer_without_a_stop_token_is_refused(tmp_path, capsys):
    broken = shutil.copytree(BASE_MODEL, tmp_path / "broken")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        raw = json.loads((broken / name).read_text())
        (broken / name).write_text(
            json.dumps({k: v for k, v in raw.items() if k != "eos_token_id" and k != "eos_token"})
        )
    code, message = attempt(tmp_path, capsys, {**BASE, "model": str(broken)})
    assert code == 2 and "stop token" in message


def test_a_checkpoint_of_pickles_is_refused(tmp_path, capsys):
    broken = shutil.copytree(BASE_MODEL, tmp_path / "broken")
    for file in broken.glob("*.safetensors"):
        file.rename(broken / "pytorch_model.bin")
    code, message = attempt(tmp_path, capsys, {**BASE, "model": str(broken)})
    assert code == 2 and "safetensors" in message


def test_gold_filtering_without_gold_answers_is_refused_with_the_alternative(tmp_path, capsys):
    rows = [json.dumps({"question": f"What is {i}+1?"}) for i in range(40)]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows) + "\n")
    code, message = attempt(
        tmp_path, capsys, {**BASE, "task": {"kind": "jsonl", "path": "problems.jsonl"}}
    )
    assert code == 2 and "gold: false" in message


def test_every_committed_recipe_is_valid(monkeypatch):
    from ouroloop.loop.recipes.recipe_file import load_recipe

    monkeypatch.setenv("OUROLOOP_DATA", "/data")
    recipes = sorted(Path("runs/recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_model_is_a_checkpoint_with_a_card(name):
    assert check_checkpoint(resolve_model(name)) and (
        resolve_model(name) / "README.md"
    ).read_text().startswith(f"# {name}")


def test_the_demos_two_arms_differ_in_name_and_guard_alone():
    from ouroloop.loop.recipes.recipe_file import differing_keys, load_recipe

    guarded, unguarded = (
        load_recipe(Path(f"runs/recipes/{name}.yaml")).to_json() for name in ("demo", "unguarded")
    )
    assert [line.split(":")[0] for line in differing_keys(guarded, unguarded)] == [
        "monitors.guard",
        "name",
    ]


def test_the_loops_own_templates_are_plain_text_for_a_checkpoint_without_chat_template(tmp_path):
    from ouroloop.loop.recipes.recipe_file import resolve
    from ouroloop.loop.setup import prepare

    (tmp_path / "problems.jsonl").write_text(
        "".join(
            json.dumps({"question": f"What is {i}+1?", "answer": str(i + 1)}) + "\n"
            for i in range(40)
        )
    )
    raw = {**BASE, "task": {"kind": "jsonl", "path": "problems.jsonl"}}
    assert not prepare(resolve(raw, base=tmp_path)).prompts.chat
    model = shutil.copytree(BASE_MODEL, tmp_path / "chatty")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert prepare(resolve({**raw, "model": str(model)}, base=tmp_path)).prompts.chat
