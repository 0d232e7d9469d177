"""Run a heavy Python module in a child process that reports to its parent and dies with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ouroloop.loop import errors
from ouroloop.loop.engines import children
from ouroloop.loop.engines.worker import end_group
from ouroloop.loop.errors import OuroloopError, TrainingError

# Lines of the child's output that begin so are messages for the parent. All others go to the log.
MARK = "@ouroloop "
# Set in the child's environment: it has a parent to report to, and standard input to watch.
WATCH = "OUROLOOP_WATCH_STDIN"


def run_child(
    module: str,
    arguments: list[str],
    log_path: Path,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Run `python -m module arguments` to its end, in a process group that dies with this process.

    Raises:
        OuroloopError: what the child reported.
        TrainingError: it died otherwise; its log's last lines are quoted.
    """
    environment = {**children.environment(), WATCH: "1"}
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            failure = _listen(child.stdout, log, on_progress)
            code = child.wait()
        # Also when this process is interrupted: an orphan would hold the GPU.
        finally:
            _kill_group(child)
    if failure is not None:
        raise failure
    if code:
        how = (
            f"was killed by signal {signal.Signals(-code).name}"
            if code < 0
            else f"ended with status {code}"
        )
        raise TrainingError(
            f"the process of {module} {how}. The last lines of its log"
            f" {log_path}:\n{children.last_lines(log_path)}"
        )


def _listen(
    lines: IO[bytes], log: IO[bytes], on_progress: Callable[[int, int], None]
) -> OuroloopError | None:
    """Follow the child's output to its end; returns the error that it reported, if any."""
    failure: OuroloopError | None = None
    for line in lines:
        # Libraries print progress bars and warnings: they belong to the log.
        if not line.startswith(MARK.encode()):
            log.write(line)
            log.flush()
            continue
        message = json.loads(line[len(MARK) :])
        if "error" in message:
            failure = getattr(errors, message["error"])(message["message"])
        else:
            on_progress(message["done"], message["total"])
    return failure


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _die_with_parent() -> None:
    """End when standard input ends: the parent holds its other end and writes nothing to it."""
    # Blocks until the parent's end of the pipe closes, even if the parent was killed.
    while os.read(0, 4096):
        pass
    end_group()


def watch_parent() -> None:
    """In the child: end when the parent ends, however it ends."""
    if os.environ.get(WATCH):
        threading.Thread(target=_die_with_parent, daemon=True).start()


def progress_reporter() -> Any:
    """In the child: a callback of transformers' Trainer that reports every step."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                report(done=state.global_step, total=state.max_steps)

    return Progress()


def report(**message: Any) -> None:
    """In the child: send a message to the parent, if there is one."""
    if os.environ.get(WATCH):
        print(MARK + json.dumps(message), flush=True)
