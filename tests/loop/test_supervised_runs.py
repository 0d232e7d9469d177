"""A whole run whose engine dies and garbles makes what one makes whose engine does not."""

import asyncio
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from scripted_world import copying, recipe, recommit

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import EngineFaults

from ouroloop.loop import interrupts, runner
from ouroloop.loop.__main__ import main
from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.errors import EngineError, RunStateError
from ouroloop.loop.folder.store import Store, sha256_of, write_json
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives.job import Retry
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.reader import read_run

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


def carried(root, monkeypatch, faults):
    """(run folder, events of its engine) of a run of one round on the faulty worker."""
    for name, value in faults.environment().items():
        monkeypatch.setenv(name, value)
    settings = recipe(rounds=1, peft=None, supervision={"restarts": 40, "start_s": 120.0})
    store = Store.create(root, settings, "none")
    setting = prepare(settings)
    config = {**setting.recipe.engine_config(), "kind": "scripted"}
    events = []
    engine = SupervisedEngine(
        partial(ProcessEngine, config, store.path / "engine.log", "faulty_worker"),
        restarts=40,
        report=lambda event, facts: events.append(event),
    )
    campaign = Campaign(store, setting, engine, lambda *what: None, trainer=copying)

    async def story():
        try:
            await campaign.run()
        finally:
            await engine.close()
            store.close()

    asyncio.run(story())
    return store.path, events


@pytest.mark.slow
def test_an_engine_that_dies_and_garbles_changes_no_number_of_a_run(tmp_path, monkeypatch):
    plain, quiet = carried(tmp_path / "plain", monkeypatch, EngineFaults())
    faults = EngineFaults(dies_every=400, garbled_every=150, noise_every=90)
    faulty, events = carried(tmp_path / "faulty", monkeypatch, faults)
    assert quiet == [] and {"engine_restarted", "answer_lost"} <= set(events)

    def samples(path):
        lines = (path / "rounds/001/samples.jsonl").read_text().splitlines()
        return sorted(lines)

    assert samples(plain) == samples(faulty) and len(samples(plain)) == 100
    for number in (0, 1):
        name = f"rounds/{number:03d}/readings.json"
        assert (plain / name).read_bytes() == (faulty / name).read_bytes()


def test_the_recipe_sets_the_limits_of_an_engine():
    limits = {"start_s": 3.0, "engine_silence_s": 2.5, "restarts": 5}
    settings = recipe(peft=None, engine={"dtype": "float32"}, supervision=limits)
    engine = engine_maker("vllm")(settings.engine_config(), Path("log"))
    assert isinstance(engine, SupervisedEngine) and engine.restarts == 5
    assert TimeLimits.of(engine.inner.config) == TimeLimits(3.0, 2.5)
    assert TimeLimits.of({}) == TimeLimits()


def test_a_run_may_be_resumed_with_other_limits_and_with_nothing_else(tmp_path):
    before = recipe(supervision={"engine_silence_s": 5.0})
    Store.create(tmp_path, before, "none").close()
    path = tmp_path / before.name
    store = Store.open(path, recipe(supervision={"engine_silence_s": 7.0, "halve_batch": False}))
    assert store.recipe.supervision.engine_silence_s == 7.0
    assert not store.recipe.supervision.halve_batch
    store.close()
    with pytest.raises(RunStateError, match="seed"):
        Store.open(path, recipe(seed=9, supervision={"engine_silence_s": 7.0}))


def test_an_engine_that_is_given_up_ends_the_run_with_the_command_that_goes_on(
    tmp_path, monkeypatch, capsys
):
    settings = recipe(rounds=1, peft=None, supervision={"restarts": 1, "start_s": 120.0})
    base = sha256_of(resolve_model("arithmetic/base"))
    Store.create(tmp_path, settings, base).close()
    for name, value in EngineFaults(dies_every=5).environment().items():
        monkeypatch.setenv(name, value)

    def build(recipe, log_path):
        config = {**recipe.engine_config(), "kind": "scripted"}
        make = partial(ProcessEngine, config, log_path, "faulty_worker")
        return SupervisedEngine(make, recipe.supervision.restarts)

    monkeypatch.setattr(runner, "build_engine", build)
    assert main(["resume", settings.name, "--runs", str(tmp_path)]) == EngineError.exit_code
    said = capsys.readouterr().err
    path = tmp_path / settings.name
    assert f"Go on with: {interrupts.resume_command(path)}" in said
    assert "supervision.restarts allows 1" in said and "engine.log" in said
    assert "warning: the engine is started again (1 of 1)" in said and "Traceback" not in said
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    restarted = [event for event in events if event["event"] == "engine_restarted"]
    assert [event["restart"] for event in restarted] == [1]
    assert events[-1]["event"] == "run_failed"


def test_the_account_of_a_run_says_what_a_training_needed(finished_run, tmp_path):
    _, finished = finished_run
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    facts = json.loads((path / "rounds/002/train.json").read_text())
    retries = [vars(Retry("memory", 8, 1, 4, 2)), vars(Retry("silence", 4, 2, 4, 2))]
    write_json(path / "rounds/002/train.json", {**facts, "retries": retries})
    recommit(path, 2)
    (said,) = [text for text in sentences(read_run(path)) if text.startswith("While training")]
    assert "in round 2 the trainer ran out of memory with 8 rows per device" in said
    assert "in round 2 the trainer fell silent" in said
    assert not [s for s in sentences(read_run(finished)) if s.startswith("While training")]
