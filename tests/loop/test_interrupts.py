"""SIGINT and SIGTERM end a run within a second, in whatever it is doing, and it can be resumed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_world import RECIPE

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import EngineFaults, TrainerFaults, child_path, is_alive, wait_until

from ouroloop.loop import interrupts

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROGRAM = """
import hashlib, os, signal, sys, time
from functools import partial
from pathlib import Path

# pytest itself may have been started with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from ouroloop.loop import __main__, runner
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.objectives import training

training.MODULE = "faulty_trainer"


def build(recipe, log_path):
    config = {**recipe.engine_config(), "kind": "scripted"}
    return SupervisedEngine(partial(ProcessEngine, config, log_path, "faulty_worker"))


def wait(how):
    Path(os.environ["TALLY"]).write_text("set-up")
    if how == "library":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**30)
    try:
        time.sleep(60)
    finally:
        if how == "stuck":
            time.sleep(60)


runner.build_engine = build
if how := os.environ.get("SET_UP"):
    runner.prepare = lambda recipe: wait(how)
sys.exit(__main__.main(sys.argv[1:]))
"""


class Interrupted:
    """A run that was ended by signals at a certain moment."""

    # A second on a free machine; tests share theirs.
    limit = 2.0

    def __init__(self, folder, numbers, engine=None, trainer=None, **environment):
        tally = folder / "tally"
        engine = engine or EngineFaults()
        trainer = trainer or TrainerFaults()
        recipe = folder / "scripted.yaml"
        recipe.write_text(json.dumps({**RECIPE, "rounds": 1, "peft": None}))
        self.runs, self.path = folder / "runs", folder / "runs" / "scripted"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), child_path()]),
            "TALLY": str(tally),
        }
        faults = {**engine.environment(), **trainer.environment(), **environment}
        faults.pop("PYTHONPATH")
        run = self.start(["run", str(recipe), "--runs", str(self.runs)], faults)
        wait_until(lambda: tally.exists() and tally.read_text(), 120)
        self.children = [int(pid) for pid in children_of(run.pid)]
        # A warm trainer's process trains in a fork of its own.
        self.below = [int(pid) for child in self.children for pid in children_of(child)]
        began = time.monotonic()
        for number in numbers:
            run.send_signal(number)
            time.sleep(0.05)
        _, self.said = run.communicate(timeout=60)
        self.seconds, self.code = time.monotonic() - began, run.returncode

    def start(self, arguments, faults):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **faults},
        )

    def events(self):
        lines = (self.path / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def test_the_grace_is_less_than_the_second_that_is_promised():
    assert interrupts.GRACE_SECONDS < 1


def check(ended, number, record_property):
    record_property("seconds", round(ended.seconds, 3))
    print(f"{signal.Signals(number).name}: {ended.seconds:.2f} s")
    assert ended.code == 128 + number
    assert ended.seconds < ended.limit
    assert not [pid for pid in ended.children + ended.below if is_alive(pid)]


# The second one is also carried on to its end.
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_run_that_is_sampling_ends_at_once_and_is_resumed_by_the_command_it_prints(
    tmp_path, number, record_property
):
    tally = str(tmp_path / "tally")
    ended = Interrupted(tmp_path, [number], EngineFaults(silent_after=30, tally=tally))
    check(ended, number, record_property)
    assert len(ended.children) == 1
    command = f"ouroloop resume {ended.path}"
    assert f"interrupted; what was finished is kept. Go on with: {command}\n" in ended.said
    last = ended.events()[-1]
    assert (last["event"], last["resume"]) == ("run_interrupted", command)
    assert last["signal"] == signal.Signals(number).name
    if number == signal.SIGTERM:
        again = ended.start(shlex.split(command)[1:], {})
        _, said = again.communicate(timeout=240)
        assert again.returncode in (0, 3), said
        assert ended.events()[-1]["event"] == "run_finished"


@pytest.mark.slow
def test_a_run_that_is_training_ends_at_once(tmp_path, record_property):
    trainer = TrainerFaults(silent_after=1, tally=str(tmp_path / "tally"))
    ended = Interrupted(tmp_path, [signal.SIGTERM], trainer=trainer)
    check(ended, signal.SIGTERM, record_property)
    assert len(ended.children) == 2, "the engine is kept while training"
    assert len(ended.below) == 1, "the round's fork of the trainer"
    assert ended.events()[-1]["event"] == "run_interrupted"
    assert not (ended.path / "rounds" / "001" / "train.json").exists()


@pytest.mark.parametrize("how", ["python", "library", "stuck"])
def test_a_run_that_is_being_set_up_ends_at_once_whatever_it_is_in(tmp_path, how, record_property):
    ended = Interrupted(tmp_path, [signal.SIGINT], SET_UP=how)
    check(ended, signal.SIGINT, record_property)
    assert "interrupted before a run began; there is nothing to resume" in ended.said
    assert not ended.path.exists() and "Traceback" not in ended.said


def test_a_second_signal_does_not_wait_for_the_first(tmp_path, record_property):
    ended = Interrupted(tmp_path, [signal.SIGINT, signal.SIGINT], SET_UP="stuck")
    check(ended, signal.SIGINT, record_property)
    assert ended.said.count("ouroloop: interrupted") == 1 and "Traceback" not in ended.said


def test_a_run_that_nobody_interrupts_leaves_the_signals_as_they_were():
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    with interrupts.ending_at_once():
        assert [signal.getsignal(number) for number in interrupts.SIGNALS] != before
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


def test_an_interruption_is_recorded_once_with_a_command_that_a_shell_takes(tmp_path):
    events = []
    path = tmp_path / "a run"
    interrupts.at_work(path, lambda event, **facts: events.append((event, facts)))
    interrupts.record()
    interrupts.record()
    ((event, facts),) = events
    assert event == "run_interrupted"
    assert shlex.split(facts["resume"]) == ["ouroloop", "resume", str(path)]
