from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_run
import pytest

from ouroloop.loop.best import best_round
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.views.measures import MEASURES, labels
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.registry import MONITORS


@pytest.mark.slow
def test_a_run_is_read_with_all_its_rounds_and_tables(arms: tuple[Path, Path]) -> None:
    run = read_run(arms[0])
    assert [r.number for r in run.rounds] == list(range(8))
    assert (
        run.name == "guarded" and run.guarded and run.state == "finished" and run.open_round is None
    )
    assert run.rounds[0].verdicts.empty and len(run.rounds[1].verdicts) == 200
    assert sum(1 for _ in run.rounds[1].samples()) == 200
    assert run.rounds[0].families == fake_run.FAMILIES and run.rounds[0].main_family == "worded"


def test_a_round_without_its_manifest_does_not_exist(tmp_path: Path) -> None:
    run = read_run(fake_run.make_run(tmp_path, "cut", rounds=1, finished=False))
    assert [r.number for r in run.rounds] == [0, 1]
    assert run.open_round == 2 and run.state == "stopped"
    (run.path / "rounds" / "001" / "MANIFEST.json").unlink()
    assert [r.number for r in read_run(run.path).rounds] == [0]


@pytest.mark.slow
def test_a_committed_round_is_not_read_a_second_time(arms: tuple[Path, Path]) -> None:
    before = read_run(arms[0])
    assert all(
        a is b for a, b in zip(before.rounds, read_run(arms[0], before=before).rounds, strict=True)
    )


def test_a_folder_that_is_no_run_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunStateError, match=r"no recipe\.json.*runs/<name>"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("rounds", "best"),
    [
        ([(0, 0.5, "continue"), (1, 0.7, "continue"), (2, 0.6, "continue")], 1),
        ([(0, 0.5, "continue"), (1, 0.9, "rollback"), (2, 0.8, "halt"), (3, 0.6, "reinject")], 3),
        ([(0, 0.5, "continue"), (1, 0.5, "continue")], 0),
        ([(0, math.nan, "continue"), (1, 0.1, "continue")], 1),
        # Nobody scores: the last round without a call.
        ([(0, math.nan, "continue"), (1, math.nan, "reinject"), (2, math.nan, "halt")], 0),
        ([(n, math.nan, "reinject" if n == 1 else "continue") for n in range(4)], 3),
        ([(0, math.nan, "rollback")], None),
        ([], None),
    ],
)
def test_the_best_round_is_the_earliest_highest_that_the_decision_rule_did_not_reject(
    rounds: list[tuple[int, float, str]], best: int
) -> None:
    assert best_round(rounds) == best


@pytest.mark.slow
def test_an_undefined_reading_is_nan_with_its_reason(arms: tuple[Path, Path]) -> None:
    reading = read_run(arms[0]).rounds[2].reading("calibration/overconfidence@8")
    assert reading is not None and math.isnan(reading.value) and "readable answer" in reading.reason


@pytest.mark.slow
def test_every_measure_but_the_held_out_scores_is_a_reading_that_some_monitor_makes(
    arms: tuple[Path, Path],
) -> None:
    last = read_run(arms[0]).rounds[-1]
    assert len(MONITORS) > 3
    # Its answers are in no response clusters.
    assert [m.key for m in MEASURES if not m.read(last).defined] == ["apart"]


def test_a_living_process_that_holds_the_lock_makes_a_run_running_and_only_then(
    tmp_path: Path,
) -> None:
    path = fake_run.make_run(tmp_path, "live", rounds=0, finished=False)
    hold = """if True:
        import fcntl, os, sys, time
        file = open(sys.argv[1], "w")
        file.write(str(os.getpid()))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(path / "LOCK")], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert read_run(path).state == "running"
    finally:
        holder.kill()
        holder.wait()
    assert read_run(path).state == "stopped"
    (path / "LOCK").write_text(
        str(os.getpid())
    )  # a number that was given to another process meanwhile
    assert read_run(path).state == "stopped"


ONE_LINE = "EngineError: the engine ended CUDA <out of memory>"


@pytest.mark.parametrize(
    ("events", "state", "failure"),
    [
        ([fake_run.FAILED], "failed", ONE_LINE),
        (
            [fake_run.FAILED, fake_run.PROGRESS],
            "failed",
            ONE_LINE,
        ),  # the terminal's last stage ended after the run
        ([fake_run.FAILED, fake_run.STARTED], "stopped", ""),  # resumed, then killed
        ([fake_run.FAILED, fake_run.STARTED, fake_run.PROGRESS, fake_run.FINISHED], "finished", ""),
        (
            [fake_run.FAILED, fake_run.STARTED, {"event": "run_failed", "error": "second"}],
            "failed",
            "second",
        ),
        ([fake_run.FINISHED, fake_run.PROGRESS], "finished", ""),
        ([{"event": "run_failed"}], "failed", "no reason was recorded"),
        ([], "stopped", ""),  # killed before it could write that it had failed
    ],
)
def test_the_state_is_what_the_last_event_of_the_run_itself_says(
    tmp_path: Path, events: list[dict[str, str]], state: str, failure: str
) -> None:
    path = fake_run.make_run(tmp_path, "ended", rounds=0, finished=False)
    fake_run.add_events(path, *events)
    run = read_run(path)
    assert (run.state, run.failure) == (state, failure)


def test_a_run_killed_while_it_wrote_its_failure_is_stopped(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "killed", rounds=0, finished=False)
    with (path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "event": "run_failed", "err')
    assert (read_run(path).state, read_run(path).failure) == ("stopped", "")


def test_a_failed_run_that_a_process_holds_is_running_again(tmp_path: Path) -> None:
    path = fake_run.make_failed_run(tmp_path)
    with (path / "LOCK").open("w") as lock:
        lock.write(str(os.getpid()))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (read_run(path).state, read_run(path).failure) == ("running", "")
    assert read_run(path).state == "failed"


def test_a_long_reason_is_cut_and_says_where_all_of_it_is(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "long", rounds=0, finished=False)
    fake_run.add_events(path, {"event": "run_failed", "error": "E: " + "x" * 100_000})
    failure = read_run(path).failure
    assert (
        failure.startswith("E: xxx") and failure.endswith("events.jsonl)") and len(failure) < 2000
    )


def test_a_line_that_is_still_being_written_is_no_event_yet(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "torn", rounds=0)
    whole = len(read_run(path).events)
    with (path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "event": "run_')
    assert len(read_run(path).events) == whole


def test_seconds_of_a_resumed_round_do_not_count_the_pause(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "paused", rounds=0)
    events = [
        {"time": 0, "event": "round_started", "round": 0},
        {"time": 90_000, "event": "run_resumed"},
        {"time": 90_001, "event": "round_started", "round": 0},
        {"time": 90_011, "event": "round_committed", "round": 0},
    ]
    (path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    assert read_run(path).seconds(0) == 10
    assert math.isnan(read_run(path).seconds(5))


def test_a_round_that_trained_nothing_names_the_checkpoint_it_kept(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "skipped", rounds=2)
    train = path / "rounds" / "002" / "train.json"
    train.write_text(json.dumps({"status": "skipped", "checkpoint": "rounds/001/checkpoint"}))
    fake_run.seal(train.parent)
    run = read_run(path)
    assert run.checkpoint(2) == path / "rounds" / "001" / "checkpoint"
    assert run.checkpoint(0) == Path("arithmetic/base")
    assert run.checkpoint(9) is None


@pytest.mark.slow
def test_runs_of_one_name_are_told_apart_by_their_folders(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    twin = shutil.copytree(arms[0], tmp_path / "twin")
    assert labels([read_run(arms[0]), read_run(twin)]) == [
        f"guarded ({arms[0]})",
        f"guarded ({twin})",
    ]
