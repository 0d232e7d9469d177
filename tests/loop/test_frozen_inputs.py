"""A run goes on with what it was started with, or says what differs and stops."""

import json
from dataclasses import replace

import pytest
import yaml
from scripted_world import recipe

from ouroloop.loop import runner
from ouroloop.loop.config import JudgeConfig
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder import frozen
from ouroloop.loop.folder.frozen import changed_versions, digest_of, inputs_of, refuse_other_inputs
from ouroloop.loop.folder.integrity import RUN
from ouroloop.loop.folder.store import PROBE_SET, Store
from ouroloop.loop.folder.sums import unseal
from ouroloop.loop.recipes.recipe_file import load_recipe
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.frozen_judge import Judge

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


def problems(first, count):
    return [
        {
            "question": f"Ann has {n} pens and finds {n + 2}. How many has she?",
            "answer": str(2 * n + 2),
        }
        for n in range(first, first + count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def begun(tmp_path):
    """(its store, what makes the setting anew) of a run on two files of problems."""
    write(tmp_path / "train.jsonl", problems(1, 30))
    write(tmp_path / "held.jsonl", problems(100, 10))
    (tmp_path / "own.json").write_text(json.dumps(CONSTITUTION))
    raw = {
        "name": "own",
        "task": {"kind": "jsonl", "path": "train.jsonl", "heldout_path": "held.jsonl"},
        "refine": {"constitution": "own.json"},
        "probe": {"problems": 4},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(raw))
    setting = prepare(load_recipe(tmp_path / "own.yaml"))
    store = Store.create(tmp_path / "runs", setting.recipe, "none", inputs_of(setting))
    yield store, lambda: prepare(store.recipe)
    store.close()


CONSTITUTION = {"right": {"prompt": ["Is it right?"], "edit_request": "Make it right."}}


def test_the_same_files_are_gone_on_with_whatever_their_line_ends(begun, tmp_path):
    store, again = begun
    path = tmp_path / "train.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"\n", b"\r\n"))
    assert path.read_bytes() != before
    refuse_other_inputs(store, again())


@pytest.mark.parametrize(
    ("file", "row", "named"),
    [("train.jsonl", 20, "training problems"), ("held.jsonl", 1, "probe set")],
)
def test_a_changed_problem_is_named_and_the_run_does_not_go_on(begun, tmp_path, file, row, named):
    store, again = begun
    lines = (tmp_path / file).read_text().splitlines()
    lines[row] = lines[row].replace("pens", "pins")
    (tmp_path / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(RunStateError, match=rf"(?s){named}: sha256 .* at the start.*Put the old"):
        refuse_other_inputs(store, again())


def test_a_resumed_run_stops_before_anything_is_made(begun, tmp_path):
    store, _ = begun
    store.close()
    write(tmp_path / "train.jsonl", problems(2, 30))
    before = {path: path.read_bytes() for path in store.path.iterdir()}
    with pytest.raises(RunStateError, match="training problems: sha256"):
        runner.resume(store.path)
    assert before == {path: path.read_bytes() for path in store.path.iterdir()}
    Store.open(store.path).close()


def test_a_held_out_question_outside_the_probe_set_counts_as_well(begun, tmp_path):
    store, again = begun
    write(tmp_path / "held.jsonl", problems(100, 9))
    with pytest.raises(RunStateError, match="held-out questions") as found:
        refuse_other_inputs(store, again())
    assert "probe set" not in str(found.value)
    assert str(tmp_path / "held.jsonl") in str(found.value)


def test_another_constitution_is_named(begun, tmp_path):
    store, again = begun
    text = (tmp_path / "own.json").read_text()
    (tmp_path / "own.json").write_text(text.replace("right", "short"))
    with pytest.raises(RunStateError, match="principles: sha256"):
        refuse_other_inputs(store, again())


def test_another_library_version_is_a_warning_that_names_both(begun, monkeypatch):
    store, _ = begun
    assert changed_versions(store) == []
    plain = frozen.environment

    def upgraded(recipe, base_sha256):
        found = plain(recipe, base_sha256)
        return {**found, "versions": {**found["versions"], "numpy": "9.9"}}

    monkeypatch.setattr(frozen, "environment", upgraded)
    (line,) = changed_versions(store)
    assert line.startswith("numpy is 9.9, the run was started with ")


def test_a_probe_set_that_the_recipe_no_longer_gives_is_not_measured(finished_run, tmp_path):
    """Whoever opens a store without comparing the inputs is stopped here."""
    import shutil

    run = shutil.copytree(finished_run[1], tmp_path / "scripted")
    store = Store.open(run)
    with pytest.raises(RunStateError, match="now give another"):
        store.keep(PROBE_SET, {"main": "other"})
    store.close()


def test_a_probe_set_of_a_run_without_rounds_is_set_aside_and_written_again(tmp_path):
    store = Store.create(tmp_path, recipe(), "none")
    (store.path / PROBE_SET).write_text("{")
    store.keep(PROBE_SET, {"main": "f"})
    assert json.loads((store.path / PROBE_SET).read_text()) == {"main": "f"}
    assert (store.path / f"{PROBE_SET}.damaged-1").read_text() == "{"
    store.close()


def test_a_digest_does_not_depend_on_where_an_object_lies_in_memory():
    one, other = (Problem("p", "q", "1", metadata={"check": object()}) for _ in range(2))
    assert digest_of([one]) == digest_of([other])
    assert digest_of([one]) != digest_of([Problem("p", "q", "2")])


def test_the_digests_stand_in_the_run(begun):
    store, again = begun
    recorded = unseal(store.path / RUN)["inputs"]
    assert recorded == inputs_of(again())
    assert {"training problems", "probe set", "checkpoint arithmetic/base"} <= set(recorded)


def test_a_judge_that_is_a_checkpoint_is_frozen_as_a_teacher_is(begun, tmp_path):
    _, again = begun
    model = tmp_path / "judge"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"1")
    judge = Judge(JudgeConfig(model=str(model)), model, {}, ())
    setting = replace(again(), judge=judge)
    before = inputs_of(setting)[f"checkpoint {model}"]
    (model / "model.safetensors").write_bytes(b"2")
    assert inputs_of(setting)[f"checkpoint {model}"] != before
    assert f"checkpoint {model}" not in inputs_of(again())
