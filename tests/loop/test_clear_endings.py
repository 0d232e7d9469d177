"""Full disks, read-only folders, damaged databases, hanging trackers: one sentence and an end."""

import errno
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from scripted_world import recipe

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import HANGING_TRACKERS

from ouroloop.loop import runner
from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import StorageError
from ouroloop.loop.folder.lock import locked
from ouroloop.loop.folder.storage import storage_error
from ouroloop.loop.folder.store import Store, write_json
from ouroloop.loop.objectives import training
from ouroloop.loop.trackers import process
from ouroloop.loop.trackers.mlflow_store import refuse_damaged_store

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

FULL = Path("/dev/full")
on_linux = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a disk without room")


def started(root):
    store = Store.create(root, recipe(tracking={"mlflow": False}), "none")
    store.close()
    return store.path


@on_linux
def test_a_full_disk_is_named_with_the_file_and_the_way_to_go_on(tmp_path, capsys, monkeypatch):
    path = started(tmp_path)

    def fill(run, changed=None):
        """As when the disk is full from here on: the log takes no line more."""
        (path / "events.jsonl").unlink()
        (path / "events.jsonl").symlink_to(FULL)
        Store(run, recipe(), locked(path), "").event("round_started", round=0)

    monkeypatch.setattr(runner, "resume", fill)
    assert main(["resume", "scripted", "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ouroloop: {path}/events.jsonl: cannot be used: the disk is full.")
    assert "`ouroloop resume RUN` goes on" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EFBIG, "`ulimit -f`"),
        (errno.EIO, "an input/output error"),
    ],
)
def test_every_way_of_not_being_able_to_write_has_a_sentence(
    tmp_path, capsys, monkeypatch, number, says
):
    def refuse(self, *args, **kwargs):
        raise OSError(number, os.strerror(number), str(self))

    (tmp_path / "r.yaml").write_text("name: r\n")
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["run", str(tmp_path / "r.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "runs" / "r") in said and says in said and "--runs" in said


def test_other_errors_of_the_system_keep_their_traceback(tmp_path, monkeypatch):
    def gone(self, *args, **kwargs):
        raise FileNotFoundError(errno.ENOENT, "no such file", "x")

    (tmp_path / "r.yaml").write_text("name: r\n")
    monkeypatch.setattr(Path, "mkdir", gone)
    with pytest.raises(FileNotFoundError):
        main(["run", str(tmp_path / "r.yaml"), "--runs", str(tmp_path / "runs")])


def test_what_a_library_says_in_words_is_understood():
    error = RuntimeError("I/O error: No space left on device (os error 28)")
    found = storage_error(error)
    assert isinstance(found, StorageError) and "the disk is full" in str(found)
    assert storage_error(RuntimeError("something else")) is None


def test_a_file_that_cannot_be_written_is_named_by_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match=r"a\.json") as found:
        write_json(tmp_path / "a.json", {})
    assert found.value.errno == errno.ENOSPC


def test_a_trainer_without_room_says_so_to_its_parent(tmp_path, monkeypatch, capsys):
    def full(job, folder):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(training, "run", full)
    monkeypatch.setenv("OUROLOOP_WATCH_STDIN", "1")
    monkeypatch.setattr(training, "watch_parent", lambda: None)
    job = {"init": "a", "examples": "b", "output": "c", "log_path": "d"}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert training.main([str(tmp_path / "job.json")]) == 2
    assert '"error": "StorageError"' in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_mlflow_database_is_named_with_the_remedy(tmp_path, damage):
    import sqlite3

    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("create table runs (name text)")
        database.executemany("insert into runs values (?)", [("x" * 500,)] * 500)
    database.close()
    refuse_damaged_store(f"sqlite:///{path}")
    data = path.read_bytes()
    path.write_bytes(b"garbage" * 999 if damage == "garbage" else data[: len(data) // 2])
    with pytest.raises(
        ValueError, match=r"mlflow\.db: MLflow's database is damaged .*Move it aside"
    ):
        refuse_damaged_store(f"sqlite:///{path}")


def with_tracker(path, name, source=HANGING_TRACKERS):
    """The run's only tracker is one of a file's."""
    # A file of its own: the child that loads it has no test folder on its path.
    tracker = path.parent / "hanging.py"
    tracker.write_text(source)
    raw = json.loads((path / "recipe.json").read_text())
    raw["tracking"]["trackers"] = [{"use": f"{tracker}:{name}", "options": {}}]
    (path / "recipe.json").write_text(json.dumps(raw))


def test_a_lock_that_somebody_holds_delays_no_round_and_the_tracker_goes_on_without_it(tmp_path):
    path = started(tmp_path)
    with_tracker(path, "Locked")
    with (tmp_path / "tracker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = time.monotonic()
        # As after each of five rounds: at once, and never two at a time.
        children = {process.start_sync(path).pid for _ in range(5)}
        message = process.safe_sync(path, seconds=0.5)
        assert time.monotonic() - before < 5 and len(children) == 1
        assert "still at work" in message
    assert process.safe_sync(path, seconds=None) is None


def test_a_tracker_that_hangs_is_ended_after_a_while_and_the_reason_is_said(tmp_path, monkeypatch):
    path = started(tmp_path)
    with_tracker(path, "Hangs")
    plain = process._Worker.ask

    def ask(worker, run_path):
        plain(worker, run_path)
        # What the alarm of its own does after SYNC_SECONDS.
        worker.child.send_signal(signal.SIGALRM)

    monkeypatch.setattr(process._Worker, "ask", ask)
    message = process.safe_sync(path, seconds=None)
    assert "not over after 1800 s" in message and "may hold its lock" in message


@pytest.mark.parametrize("already", [False, True])
def test_the_end_of_a_run_does_not_wait_for_a_tracker_that_hangs(tmp_path, monkeypatch, already):
    path = started(tmp_path)
    with_tracker(path, "Hangs")
    children = []
    plain = process._Worker.__init__

    def start(worker, log):
        plain(worker, log)
        children.append(worker.child)

    monkeypatch.setattr(process._Worker, "__init__", start)
    if already:
        process.start_sync(path)
    before = time.monotonic()
    message = process.safe_sync(path, seconds=1.0)
    assert time.monotonic() - before < 5
    assert "still at work after 1 s" in message and "tracking.log" in message
    assert len(children) == 1
    for child in children:
        child.kill()
        child.wait()


COUNTS = """
import os

class Counts:
    def sync(self, run_path):
        print("a library that prints")
        with (run_path / "seen.txt").open("a") as seen:
            print(os.getpid(), file=seen)
        if (run_path / "fail.txt").exists():
            raise ConnectionError("nobody answers")
"""


def test_one_process_syncs_all_rounds_of_a_run_and_ends_with_it(tmp_path):
    path = started(tmp_path)
    with_tracker(path, "Counts", COUNTS)
    child = process.start_sync(path)
    worker = process._workers[path.resolve().parent]
    assert worker.wait(time.monotonic() + 120)
    (path / "fail.txt").touch()
    assert process.start_sync(path) is child
    assert worker.wait(time.monotonic() + 60)
    (failure,) = worker.failures
    assert failure.endswith("Counts: ConnectionError: nobody answers")
    assert "Traceback" in (path / "tracking.log").read_text()
    # A failure is that of its own sync, not of the next one.
    (path / "fail.txt").unlink()
    assert process.safe_sync(path, seconds=None) is None
    assert (path / "tracking.log").read_text() == "a library that prints\n"
    pids = (path / "seen.txt").read_text().split()
    assert pids == [str(child.pid)] * 3 and child.returncode == 0


def test_ten_seconds_are_the_limit_and_a_hanging_sync_ends_by_itself():
    assert process.END_SECONDS <= 10
    alarmed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process.signal, "alarm", alarmed.append)
        patch.setattr(process, "sync", lambda path: [])
        process._limited(Path(sys.executable))
    assert alarmed == [process.SYNC_SECONDS, 0]
