"""A run that goes on elsewhere: its lock between hosts, and inputs that lie in other folders."""

import asyncio
import json
import os
import select
import shutil
import time
from dataclasses import replace

import pytest
from scripted_world import Model, copying, small

from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines import moved
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.errors import CheckpointError, RecipeError, RunStateError
from ouroloop.loop.folder import lock
from ouroloop.loop.folder.frozen import inputs_of, refuse_other_inputs
from ouroloop.loop.folder.lock import LOCK, STALE_SECONDS, Holder, is_held, locked
from ouroloop.loop.folder.store import Store
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.setup import prepare


@pytest.fixture(autouse=True)
def _no_moves(monkeypatch):
    # Set first: whatever a test remembers is taken back with it.
    monkeypatch.setenv(moved.VARIABLE, "")


# ----- the lock -----


def other_host(path, seconds_ago, pid=7):
    """LOCK as a process on another host leaves it."""
    holder = Holder(pid, "node-b", "another-boot", time.time() - seconds_ago)
    (path / LOCK).write_text(holder.text)


def test_a_run_that_another_host_works_on_is_refused_and_named(tmp_path):
    other_host(tmp_path, 30)
    with pytest.raises(RunStateError, match=r"process 7 on node-b, whose last sign.* was 3\d"):
        locked(tmp_path)
    assert is_held(tmp_path / LOCK)


def test_a_run_whose_host_is_gone_is_taken_over(tmp_path):
    other_host(tmp_path, STALE_SECONDS + 1)
    assert not is_held(tmp_path / LOCK)
    held = locked(tmp_path)
    found = Holder.read((tmp_path / LOCK).read_text())
    assert (found.pid, found.is_here, found.is_fresh) == (os.getpid(), True, True)
    held.close()


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "is_free"), [(0.2, True), (5, False)])
def test_a_process_that_a_killed_one_left_behind_is_waited_for_a_short_time(
    tmp_path, monkeypatch, seconds, is_free
):
    monkeypatch.setattr(lock, "LEFT_OVER_SECONDS", 1.0)
    ends, wakes = os.pipe()
    if not (holder := os.fork()):
        locked(tmp_path)
        if not os.fork():
            # It has the killed one's files until it gets to its own program.
            select.select([ends], [], [], seconds)
        os._exit(0)
    os.waitpid(holder, 0)
    if is_free:
        locked(tmp_path).close()
    else:
        with pytest.raises(RunStateError, match=f"held by process {holder}"):
            locked(tmp_path)
    os.write(wakes, b".")
    for descriptor in (ends, wakes):
        os.close(descriptor)


def test_a_run_that_ended_is_free_at_once_on_every_host(tmp_path, monkeypatch):
    locked(tmp_path).close()
    monkeypatch.setattr(lock, "boot_id", lambda: "another-boot")
    assert not is_held(tmp_path / LOCK)
    locked(tmp_path).close()


def test_on_one_host_the_lock_is_free_as_soon_as_its_process_is_gone(tmp_path):
    here = replace(Holder.here(), pid=2**22 + 1)
    (tmp_path / LOCK).write_text(here.text)
    assert not is_held(tmp_path / LOCK)
    locked(tmp_path).close()
    # As an earlier version wrote it.
    (tmp_path / LOCK).write_text(str(2**22 + 1))
    locked(tmp_path).close()


def test_a_held_run_gives_signs_of_life_and_notices_when_it_was_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    held = locked(tmp_path)
    first = Holder.read((tmp_path / LOCK).read_text())
    until = time.monotonic() + 20
    while Holder.read((tmp_path / LOCK).read_text()).time == first.time:
        assert time.monotonic() < until
        time.sleep(0.01)
    held.refuse_lost()
    other_host(tmp_path, 0)
    while True:
        try:
            held.refuse_lost()
        except RunStateError as error:
            assert "taken over by process 7 on node-b" in str(error)
            break
        assert time.monotonic() < until
        time.sleep(0.01)
    held.close()
    assert "node-b" in (tmp_path / LOCK).read_text(), "what is another's is left alone"


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path):
    store = Store.create(tmp_path, small(), "none")
    store._lock._taken_by = Holder(7, "node-b", "another-boot", time.time())
    before = (store.path / "events.jsonl").read_bytes()
    with pytest.raises(RunStateError, match="taken over"):
        store.event("progress")
    assert (store.path / "events.jsonl").read_bytes() == before
    store.close()


# ----- other folders -----


class Stopped(Exception):
    """Somebody ended the run. asked: of the model until then."""

    asked: list[str]


def carry(store, setting, stops_at=None):
    """Go on with a run; returns the requests that the model was asked."""
    model, stages = Model(), []

    def progress(stage, done, total, note):
        stages.append(f"{note} {stage}")
        if stops_at == f"{note} {stage}" and done > total // 2:
            raise Stopped

    campaign = Campaign(store, setting, model.engine, progress, trainer=copying)
    try:
        asyncio.run(campaign.run())
    except Stopped as stopped:
        stopped.asked = [request.id for request in model.engine.requests]
        raise
    finally:
        store.close()
    return [request.id for request in model.engine.requests]


def begun(root, base, stops_at=None):
    """A run on a model of one's own, stopped or to its end: (its folder, what was asked)."""
    settings = small(rounds=2, model=str(base), peft=None)
    setting = prepare(settings)
    store = Store.create(root, settings, "none", inputs_of(setting))
    if stops_at is None:
        return store.path, carry(store, setting)
    with pytest.raises(Stopped) as stopped:
        carry(store, setting, stops_at)
    return store.path, stopped.value.asked


def resumed(path):
    store = Store.open(path)
    try:
        setting = prepare(store.recipe)
        refuse_other_inputs(store, setting)
    except BaseException:
        store.close()
        raise
    return carry(store, setting)


FILES = ("samples.jsonl", "examples.parquet", "probe.parquet", "readings.json")


def files_of(path):
    return {
        f"{number}/{name}": (path / "rounds" / f"{number:03d}" / name).read_bytes()
        for number in (1, 2)
        for name in FILES
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of one's own."""
    # Completions name a checkpoint by the last two parts of its path: "models/mine" everywhere.
    folder = tmp_path_factory.mktemp("plain") / "models" / "mine"
    shutil.copytree(resolve_model("arithmetic/base"), folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    """(files, requests) of the whole run in its first place."""
    path, asked = begun(tmp_path_factory.mktemp("plain"), model)
    return files_of(path), asked


@pytest.mark.slow
@pytest.mark.parametrize("stops_at", ["round 0 probing", "round 1 sampling", "round 2 sampling"])
def test_a_run_that_is_moved_with_its_model_makes_the_same_rows_and_asks_nothing_twice(
    tmp_path, model, undisturbed, stops_at
):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(model, first / "models" / "mine")
    path, before = begun(first / "runs", first / "models" / "mine", stops_at)
    # Another host: nothing is where it was.
    second.mkdir()
    (first / "runs").rename(second / "shared-runs")
    (second / "weights").mkdir()
    (first / "models").rename(second / "weights" / "models")
    path = second / "shared-runs" / path.name
    with pytest.raises(CheckpointError, match="no such folder"):
        resumed(path)
    moved.remember([f"{first}={second / 'weights'}"])
    after = resumed(path)
    files, asked = undisturbed
    assert files_of(path) == files
    # The journal came with the folder: what was answered is known, though the model lies elsewhere.
    assert len(before) > 20 and sorted(before + after) == sorted(asked)
    written = json.loads((path / "recipe.json").read_text())
    assert written["model"] == str(first / "models" / "mine"), "the run says what it was made of"


@pytest.mark.slow
def test_another_model_in_the_new_place_is_refused(tmp_path, model):
    path, _ = begun(tmp_path / "runs", model, "round 1 sampling")
    other = tmp_path / "other"
    shutil.copytree(resolve_model("arithmetic/teacher"), other)
    moved.remember([f"{model}={other}"])
    with pytest.raises(RunStateError, match=r"not what this run was started with:\n  checkpoint"):
        resumed(path)


def test_the_base_of_an_adapter_is_found_where_it_lies_now(tmp_path, model):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    named = {"base_model_name_or_path": "/nowhere/models/mine"}
    (adapter / "adapter_config.json").write_text(json.dumps(named))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no local folder"):
        check_checkpoint(adapter)
    moved.remember([f"/nowhere/models={model.parent}"])
    assert check_checkpoint(adapter).weights == model


def test_only_whole_folders_of_a_path_are_moved(monkeypatch):
    moved.remember(["/a/models=/b", "/data=/c/data/"])
    assert moved.moved("/a/models/x") == "/b/x" and moved.moved("/a/models") == "/b"
    assert moved.moved("/a/models2/x") == "/a/models2/x"
    assert moved.moved({"path": ["/data/x", 3, "solve /data/x"]}) == {
        "path": ["/c/data/x", 3, "solve /data/x"]
    }
    with pytest.raises(RecipeError, match="expected OLD=NEW, two absolute paths"):
        moved.remember(["models=/b"])
