"""A trainer that runs out of memory, falls silent or dies: what is tried, and what is said."""

import contextlib
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import recipe

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import TrainerFaults, is_alive, wait_until

from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.errors import OutOfMemoryError, TrainerSilentError, TrainingError
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.child import run_child
from ouroloop.loop.objectives.job import Retry, TrainingJob
from ouroloop.loop.objectives.retries import batch_of, halved, memory_error

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train a job under faults; gives its facts and the round's folder."""
    monkeypatch.setattr(training, "MODULE", "faulty_trainer")

    def train(faults, batch=8, accumulation=1, **supervision):
        for name, value in faults.environment().items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / "rounds" / "001"
        folder.mkdir(parents=True, exist_ok=True)
        settings = recipe(
            peft=None,
            engine={"dtype": "float32"},
            sft={
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": accumulation,
            },
            supervision={"start_s": 60, "trainer_silence_s": 60, **supervision},
        )
        job = TrainingJob.from_recipe(settings, resolve_model("arithmetic/base"), folder, seed=1)
        return training.train(job, folder), folder

    return train


@pytest.mark.parametrize("how", ["killed", "python", "launcher"])
def test_a_trainer_without_memory_is_tried_with_half_the_batch_until_it_fits(trained, caplog, how):
    with caplog.at_level(logging.WARNING):
        facts, folder = trained(TrainerFaults(fits=2, how=how))
    assert facts["retries"] == [
        {
            "cause": "memory",
            "batch": batch,
            "accumulation": 8 // batch,
            "next_batch": batch // 2,
            "next_accumulation": 16 // batch,
        }
        for batch in (8, 4)
    ]
    job = json.loads((folder / "job.json").read_text())
    assert job["settings"]["per_device_train_batch_size"] == 2
    assert job["settings"]["gradient_accumulation_steps"] == 4
    assert "started again with 2 and 4 (the same effective batch)" in caplog.text
    assert (folder / "checkpoint" / "config.json").exists()


def test_below_one_row_there_is_nothing_to_try_and_the_error_says_what_helps(trained):
    with pytest.raises(OutOfMemoryError) as failed:
        trained(TrainerFaults(fits=1, how="python"), batch=4, halve_batch=False)
    assert "supervision.halve_batch: true" in str(failed.value)


def test_a_model_too_large_for_one_row_ends_with_the_remedies(trained, monkeypatch):
    monkeypatch.setattr("ouroloop.loop.objectives.retries.halved", lambda job: None)
    with pytest.raises(OutOfMemoryError) as failed:
        trained(TrainerFaults(fits=1), batch=2, accumulation=3)
    said = str(failed.value)
    assert "2 rows per device with 3 steps of accumulation" in said
    assert "gradient_checkpointing" in said and "SIGKILL" in said and "train.log" in said


def test_a_silent_trainer_is_ended_and_started_again(trained, tmp_path):
    faults = TrainerFaults(silent_after=1, limit=1, tally=str(tmp_path / "tally"))
    facts, _ = trained(faults, trainer_silence_s=0.5)
    assert [retry["cause"] for retry in facts["retries"]] == ["silence"]
    assert facts["retries"][0]["next_batch"] == 8, "its batch is not to blame"


def test_the_ranks_of_a_launcher_end_with_its_training(tmp_path, monkeypatch):
    """Each leads a session of its own, which no kill of the launcher's group reaches."""
    monkeypatch.setattr(training, "MODULE", "faulty_trainer")
    for name, value in TrainerFaults(silent_after=1).environment().items():
        monkeypatch.setenv(name, value)
    keys = {"launcher": "accelerate", "accelerate_config": "two_cpu_processes"}
    settings = recipe(peft=None, engine={"dtype": "float32"}, **keys)
    job = TrainingJob.from_recipe(settings, resolve_model("arithmetic/base"), tmp_path, seed=1)

    def ranks():
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                said = path.read_bytes().decode(errors="replace").split("\0")
                is_one = str(tmp_path / "job.json") in said and "accelerate.commands" not in str(
                    said
                )
                found += [int(path.parent.name)] if is_one else []
        return found

    seen = []

    def interrupt(done, total):
        seen.extend(wait_until(lambda: len(ranks()) == 2 and ranks()))
        raise KeyboardInterrupt

    # Held, or the end of the pipe would come with the end of the traceback's frames.
    with pytest.raises(KeyboardInterrupt) as held:
        training.train(job, tmp_path, interrupt)
    assert held is not None and len(seen) == 2
    wait_until(lambda: not [pid for pid in seen if is_alive(pid)], 20)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_trainer_that_stays_silent_ends_the_run_after_its_restarts(trained, tmp_path, restarts):
    faults = TrainerFaults(silent_after=0, tally=str(tmp_path / "tally"))
    with pytest.raises(TrainerSilentError, match=r"no sign of progress for 4 s.*start_s"):
        # Silent before its first step: that limit is the one of its start.
        trained(faults, start_s=4, restarts=restarts)
    assert faults.count() == restarts + 1


def test_another_failure_is_not_tried_again(trained, tmp_path):
    faults = TrainerFaults(fails=True, tally=str(tmp_path / "tally"))
    with pytest.raises(TrainingError, match="ended with status 3") as failed:
        trained(faults)
    assert not isinstance(failed.value, OutOfMemoryError) and faults.count() == 1


def test_a_training_that_was_finished_is_not_repeated_for_a_death_afterwards(trained, monkeypatch):
    """train.json is written last of all: a launcher that is killed then has done its work."""

    def killed(module, arguments, log_path, on_progress, limits):
        folder = Path(arguments[0]).parent
        (folder / "train.json").write_text(json.dumps({"status": "rejected", "seconds": 1}))
        raise OutOfMemoryError("killed at the very end")

    monkeypatch.setattr(training, "run_child", killed)
    facts, _ = trained(TrainerFaults())
    assert facts == {"status": "rejected", "seconds": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [((8, 1), (4, 2)), ((6, 2), (3, 4)), ((5, 1), (1, 5)), ((7, 4), (2, 14)), ((2, 8), (1, 16))],
)
def test_half_a_batch_or_less_keeps_the_effective_batch(before, after):
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    job = TrainingJob(Path(), Path(), Path(), Path(), dict(zip(names, before, strict=True)))
    smaller = halved(job)
    assert batch_of(smaller) == after
    assert after[0] * after[1] == before[0] * before[1]
    assert halved(replace(job, settings={names[0]: 1})) is None


def test_a_job_with_limits_and_retries_survives_its_file():
    settings = recipe(peft=None, engine={"dtype": "float32"}, supervision={"restarts": 7})
    job = TrainingJob.from_recipe(settings, Path("a"), Path("b"), seed=1)
    job = replace(job, retries=(Retry("memory", 8, 1, 4, 2),))
    assert TrainingJob.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert job.supervision.restarts == 7


def test_errors_of_memory_are_known_by_kind_and_by_words():
    torch_kind = type("OutOfMemoryError", (RuntimeError,), {})
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    for error in (MemoryError(), torch_kind("CUDA out of memory"), RuntimeError(words)):
        assert isinstance(memory_error(error), OutOfMemoryError)
    assert memory_error(RuntimeError("shape mismatch")) is None
    assert memory_error(ValueError("out of memory is a word here")) is None


def test_damaged_messages_and_endless_lines_go_to_the_log_and_hang_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "noisy.py").write_text(
        "import sys\n"
        "print('@ouroloop {broken')\n"
        "sys.stdout.write('x' * 300_000)\n"
        "print()\n"
        "print('@ouroloop {\"done\": 1, \"total\": 2}', end='')\n"
    )
    seen = []
    run_child("noisy", [], tmp_path / "log", lambda *step: seen.append(step))
    assert seen == [(1, 2)]
    log = (tmp_path / "log").read_text()
    assert "{broken" in log and log.count("x") == 300_000


def test_what_a_library_prints_is_no_sign_of_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "chatty.py").write_text("while True: print('still here', flush=True)\n")
    with pytest.raises(TrainerSilentError, match="still here"):
        run_child("chatty", [], tmp_path / "log", limits=TimeLimits(start_s=0.5))
