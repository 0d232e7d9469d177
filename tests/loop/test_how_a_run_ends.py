"""What the event log and the views say of a run that fails, is interrupted, is killed.

And is resumed.
"""

import json
import signal
from functools import partial

import pytest
from scripted_world import Model, no_training, small

from ouroloop.loop import runner
from ouroloop.loop.controller import Campaign
from ouroloop.loop.errors import EngineError
from ouroloop.loop.folder.store import Store, sha256_of
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.views.reader import read_run

BASE_SHA256 = sha256_of(resolve_model("arithmetic/base"))


@pytest.fixture
def path(tmp_path):
    """A run that has been made and not begun."""
    store = Store.create(tmp_path, small(rounds=1), BASE_SHA256)
    store.close()
    return store.path


def resume(path, engine, monkeypatch):
    """Carry the run on, with this engine and without training."""
    monkeypatch.setattr(runner, "build_engine", lambda recipe, log_path: engine)
    monkeypatch.setattr(runner, "Campaign", partial(Campaign, trainer=no_training))
    return runner.resume(path)


def events(path):
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def failing_engine():
    """Dies in the middle of the first stage that samples.

    Whose progress is shown at that moment.
    """
    engine = Model().engine
    engine.fail_after = 10
    return engine


def test_nothing_follows_the_failure_in_the_log_and_its_reason_is_kept(path, monkeypatch):
    with pytest.raises(EngineError):
        resume(path, failing_engine(), monkeypatch)
    found = [event["event"] for event in events(path)]
    assert "progress" in found and found[-1] == "run_failed"
    run = read_run(path)
    assert (
        run.state == "failed"
        and run.failure
        == "EngineError: scripted engine: set to fail after 10 completions and scores"
    )


@pytest.mark.slow
def test_a_failed_run_that_is_resumed_to_its_end_is_finished_without_a_reason(path, monkeypatch):
    with pytest.raises(EngineError):
        resume(path, failing_engine(), monkeypatch)
    resume(path, Model().engine, monkeypatch)
    run = read_run(path)
    assert [r.number for r in run.rounds] == [0, 1]
    assert (run.state, run.failure) == ("finished", "")


def test_an_engine_that_cannot_be_built_is_a_failure_of_the_run_and_lets_it_go(path, monkeypatch):
    def broken(recipe, log_path):
        raise EngineError("no such device")

    monkeypatch.setattr(runner, "build_engine", broken)
    with pytest.raises(EngineError):
        runner.resume(path)
    assert read_run(path).failure == "EngineError: no such device"
    Store.open(path).close()


def test_an_interrupted_run_is_stopped_and_has_not_failed(path, monkeypatch):
    model = Model()
    engine = model.engine

    def interrupt(request):
        if len(engine.requests) == 10:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C
        return model.answer(request)

    engine.answer = interrupt
    # A shell starts what it puts into the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            resume(path, engine, monkeypatch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (read_run(path).state, read_run(path).failure) == ("stopped", "")
    assert "run_failed" not in [event["event"] for event in events(path)]
    last = events(path)[-1]
    assert last["event"] == "run_interrupted" and last["resume"].endswith(str(path))


def test_a_line_cut_short_by_a_kill_spoils_no_later_event(path):
    """Killed while it wrote that it had failed, then resumed.

    The new beginning must be readable.
    """
    store = Store.open(path)
    store.event("run_started")
    store.close()
    with (path / "events.jsonl").open("a") as log:
        log.write('{"time": 2, "event": "run_fai')
    store = Store.open(path)
    store.event("run_started", name="again")
    store.event("progress", note="né")
    assert [event["event"] for event in read_run(path).events] == [
        "run_created",
        "run_started",
        "log_repaired",
        "run_started",
        "progress",
    ]
    assert read_run(path).state == "running"
    store.close()
    assert read_run(path).state == "stopped"


@pytest.mark.parametrize("tracked", [True, False])
def test_a_failed_run_is_brought_to_mlflow_once_more(tmp_path, monkeypatch, tracked):
    """The last committed round has left it there as running."""
    store = Store.create(tmp_path, small(rounds=1, tracking={"mlflow": tracked}), BASE_SHA256)
    store.close()
    seen = []
    monkeypatch.setattr(runner, "safe_sync", lambda path: seen.append(read_run(path).state))
    monkeypatch.setattr(runner, "start_sync", lambda path: None)
    with pytest.raises(EngineError):
        resume(store.path, failing_engine(), monkeypatch)
    assert seen == (["failed"] if tracked else [])
