"""Trackers in a child process: no run waits for one, and no run fails with one.

    python -m ouroloop.loop.trackers.process RUN_FOLDER

brings every tracker of the run up to date; its last line on standard error says what failed.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from ouroloop.loop.secrets import redacted, unmasked
from ouroloop.loop.storage import storage_error
from ouroloop.loop.trackers.registry import trackers_of

LOG = "tracking.log"
# The end of a run waits so long for its trackers, which then go on alone.
END_SECONDS = 10.0
# Nobody may be waiting any more: a sync that takes longer than this hangs, and is ended.
SYNC_SECONDS = 1800

# The child process that works on a folder of runs. One at a time: two would write to one database.
_running: dict[Path, subprocess.Popen[bytes]] = {}


def start_sync(run_path: Path) -> subprocess.Popen[bytes]:
    """Sync in a child process and return at once.

    While one works on this folder of runs, that one is returned instead; the next call, or
    `safe_sync`, brings what it missed.
    """
    root = run_path.resolve().parent
    running = _running.get(root)
    if running is not None:
        if running.poll() is None:
            return running
        children.ended(running.pid)
    command = [sys.executable, "-m", "ouroloop.loop.trackers.process", str(run_path.resolve())]
    # Written anew: only what the latest sync says is still true.
    with (run_path / LOG).open("wb") as log:
        # A group of its own, so that an interrupted run can end what a tracker started.
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    children.started(running.pid)
    _running[root] = running
    return running


def safe_sync(run_path: Path, seconds: float | None = END_SECONDS) -> str | None:
    """Sync everything and wait for it, at most `seconds`; None waits to its end.

    Returns None, or in one line why it failed or is not over (more in the run's tracking.log).
    """
    until = None if seconds is None else time.monotonic() + seconds
    try:
        # What already works may have begun before the last round was committed.
        running = _running.pop(run_path.resolve().parent, None)
        if running is not None:
            _wait(running, until)
        # Where that one still works, the new one waits for it, in a process that nobody waits for.
        child = start_sync(run_path)
        if _wait(child, until) is None:
            return (
                f"tracking: still at work after {seconds:.0f} s, and left to itself"
                f" ({run_path / LOG})."
            )
        if child.returncode == 0:
            return None
        lines = (run_path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"tracking: {error}"
    last = "tracking: the sync process ended without a word"
    # `main` sets the alarm and handles it nowhere, so that it ends whatever hangs, C code too.
    if child.returncode == -signal.SIGALRM:
        last = (
            f"tracking: not over after {SYNC_SECONDS} s, and ended. Another process may hold its"
            " lock, or its server does not answer"
        )
    elif lines:
        last = lines[-1]
    return (
        f"{last} (all of it: {run_path / LOG}). The run itself is whole; try again with"
        " `ouroloop sync`."
    )


def _wait(child: subprocess.Popen[bytes], until: float | None) -> int | None:
    """Its exit code; None where it has none at that moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(None if until is None else max(0.0, until - time.monotonic()))
        children.ended(child.pid)
    return child.returncode


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


def main(arguments: list[str]) -> int:
    """The child process of `start_sync`; a tracker that hangs ends with it after a while."""
    signal.alarm(SYNC_SECONDS)
    failures = sync(Path(arguments[0]))
    if failures:
        print("; ".join(failures), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
