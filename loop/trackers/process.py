"""Trackers in a child process: no run waits for one, and no run fails with one.

    python -m ouroloop.loop.trackers.process

reads the folder of a run from a line of its input, brings every tracker of that run up to date, and
answers with a line that says what failed; then the next one. It stays as long as its run, for its
libraries take longer to import than a round to record, and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from ouroloop.evals.errors import DataError
from ouroloop.loop.engines import children
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.extras import explain, extra_of
from ouroloop.loop.folder.storage import storage_error
from ouroloop.loop.recipes.secrets import redacted, unmasked
from ouroloop.loop.trackers.registry import trackers_of

LOG = "tracking.log"
# The end of a run waits so long for its trackers, which then go on alone.
END_SECONDS = 10.0
# Nobody may be waiting any more: a sync that takes longer than this hangs, and is ended.
SYNC_SECONDS = 1800


class _Worker:
    """A child process that syncs runs, one after the other, as it is asked to.

    Args:
        log: the run's tracking.log, for what it says before it has read its first request.
    """

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "ouroloop.loop.trackers.process"]
        with log.open("wb") as errors:
            # A group of its own, so that an interrupted run can end what a tracker started.
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        children.started(self.child.pid)
        self.failures: list[str] = []
        self._num_asked = self._num_answered = 0
        self._answers = b""

    @property
    def has_answered(self) -> bool:
        """Whether it owes no answer."""
        return self._num_answered == self._num_asked

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.child.poll() is not None

    def ask(self, run_path: Path) -> None:
        """Let it sync a run, after those that it was asked for before."""
        assert self.child.stdin is not None
        self._num_asked += 1
        # One that was killed is found out by `wait`.
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(f"{json.dumps(str(run_path))}\n".encode())
            self.child.stdin.flush()

    def wait(self, until: float | None) -> bool:
        """Whether it has answered everything, or ended, at that moment (None: whenever that is)."""
        assert self.child.stdout is not None
        while not self.has_answered:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.child.stdout], [], [], left)[0]:
                return False
            found = os.read(self.child.stdout.fileno(), 65536)
            if not found:
                self.child.wait()
                return True
            *lines, self._answers = (self._answers + found).split(b"\n")
            self._num_answered += len(lines)
            if lines:
                self.failures = json.loads(lines[-1])
        return True

    def leave(self, until: float | None) -> None:
        """Ask for nothing more: it ends by itself, and is waited for until then at most."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        if self.wait(until):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(None if until is None else max(0.0, until - time.monotonic()))
                children.ended(self.child.pid)


# The one that works on a folder of runs. One at a time: two would write to one database.
_workers: dict[Path, _Worker] = {}


def start_sync(run_path: Path) -> subprocess.Popen[bytes]:
    """Sync in a child process and return at once.

    While one works on this folder of runs, that one is returned instead; the next call, or
    `safe_sync`, brings what it missed.
    """
    root = run_path.resolve().parent
    worker = _idle(root, run_path, until=time.monotonic())
    if worker is not None:
        worker.ask(run_path.resolve())
    return _workers[root].child


def safe_sync(run_path: Path, seconds: float | None = END_SECONDS) -> str | None:
    """Sync everything and wait for it, at most `seconds`; None waits to its end.

    Returns None, or in one line why it failed or is not over (more in the run's tracking.log).
    """
    until = None if seconds is None else time.monotonic() + seconds
    root = run_path.resolve().parent
    try:
        # What it works on already may have begun before the last round was committed.
        _idle(root, run_path, until)
        # Where it still does, it goes on with this one in a process that nobody waits for.
        worker = _workers.pop(root)
        worker.ask(run_path.resolve())
        worker.leave(until)
        if not worker.wait(time.monotonic()):
            return (
                f"tracking: still at work after {seconds:.0f} s, and left to itself"
                f" ({run_path / LOG})."
            )
        last = _failure(worker, run_path)
    except OSError as error:
        return f"tracking: {error}"
    if last is None:
        return None
    return (
        f"{last} (all of it: {run_path / LOG}). No tracker changes a run; try again with"
        " `ouroloop sync`."
    )


def _idle(root: Path, run_path: Path, until: float | None) -> _Worker | None:
    """The worker of a folder of runs, started where there is none; None while it is busy."""
    worker = _workers.get(root)
    if worker is not None and not worker.wait(until):
        return None
    if worker is None or worker.is_over:
        if worker is not None:
            children.ended(worker.child.pid)
        worker = _workers[root] = _Worker(run_path / LOG)
    return worker


def _failure(worker: _Worker, run_path: Path) -> str | None:
    """Why the last sync failed, in one line."""
    if worker.has_answered:
        return "; ".join(worker.failures) or None
    # `_limited` sets the alarm and nothing handles it, so that it ends whatever hangs, C code too.
    if worker.child.returncode == -signal.SIGALRM:
        return (
            f"tracking: not over after {SYNC_SECONDS} s, and ended. Another process may hold its"
            " lock, or its server does not answer"
        )
    lines = (run_path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "tracking: the sync process ended without a word"


def sync(run_path: Path) -> list[str]:
    """Bring every tracker up to date, in this process; returns what failed, one line each.

    A tracker's error is written to standard error with its traceback, and the next one is tried.
    """
    recipe = json.loads((run_path / "recipe.json").read_text(encoding="utf-8"))
    # As `Recipe.apply_privacy` does: `ouroloop sync` is no child of the run.
    if recipe.get("private"):
        os.umask(0o077)
    try:
        tracking = unmasked({"tracking": recipe.get("tracking") or {}})["tracking"]
    except RecipeError as error:
        return [str(error)]
    failures = []
    for name, make in trackers_of(tracking):
        try:
            make().sync(run_path)
        except Exception as error:
            print(redacted(traceback.format_exc()), file=sys.stderr)
            failures.append(redacted(_line(name, error)))
    return failures


def _line(name: str, error: Exception) -> str:
    """`mlflow: OperationalError: unable to open database file`, on one line."""
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name)):
        return explain(f"tracking by {name}", [str(error.name)], extra)
    known = storage_error(error)
    text = " ".join(str(known or error).split())
    if known is not None:
        return f"{name}: {text}"
    if isinstance(error, DataError):
        return text  # it begins with the recipe's key, and says what to do
    return f"{name}: {type(error).__name__}: {text}"


def _limited(run_path: Path) -> list[str]:
    """`sync`; one that hangs ends this process."""
    signal.alarm(SYNC_SECONDS)
    failures = sync(run_path)
    signal.alarm(0)
    return failures


def main() -> int:
    """The child process: a run for each line of its input, until that ends."""
    # Libraries print where they like: the answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        run_path = Path(json.loads(line))
        # Written anew: only what the latest sync says is still true.
        with (run_path / LOG).open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        failures = _limited(run_path)
        if failures:
            print("; ".join(failures), file=sys.stderr)
        # Who asked may have left.
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(failures), file=answers, flush=True)
    # Not Python's own end, which would flush what nobody reads any more.
    with contextlib.suppress(BrokenPipeError):
        answers.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
