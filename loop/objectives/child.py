"""Run a heavy Python module in a child process that reports to its parent and dies with it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ouroloop.loop import errors
from ouroloop.loop.engines import children, heartbeat
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.worker import end_group
from ouroloop.loop.errors import (
    OuroloopError,
    OutOfMemoryError,
    TrainerSilentError,
    TrainingError,
)

# Lines of the child's output that begin so are messages for the parent. All others go to the log.
MARK = "@ouroloop "
# Set in the child's environment: it has a parent to report to, and standard input to watch.
WATCH = "OUROLOOP_WATCH_STDIN"
# Where a recipe's `supervision` is not given.
LIMITS = TimeLimits(start_s=1800.0, silence_s=1800.0)
CHUNK_BYTES = 2**16
# How accelerate and torch's launcher say that a process of theirs was killed.
KILLED_BELOW = re.compile(r"Signals\.SIGKILL|Signal 9 \(SIGKILL\)|exitcode\s*:\s*-9\b")


def run_child(
    module: str,
    arguments: list[str],
    log_path: Path,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    limits: TimeLimits = LIMITS,
) -> None:
    """Run `python -m module arguments` to its end, in a process group that dies with this process.

    limits: seconds to the first sign of progress, and from one to the next.

    Raises:
        OuroloopError: what the child reported.
        TrainerSilentError: no sign of progress for so long; it was ended.
        OutOfMemoryError: it was killed as the system does where memory runs out.
        TrainingError: it died otherwise; its log's last lines are quoted.
    """
    environment = {**children.environment(), WATCH: "1"}
    with log_path.open("ab") as log:
        # Earlier attempts wrote into the same log.
        begin = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        children.started(child.pid)
        assert child.stdout is not None
        try:
            failure = _listen(_lines(child.stdout, limits), log, on_progress)
            code = child.wait(limits.silence_s)
        except (_SilentError, subprocess.TimeoutExpired) as silent:
            raise TrainerSilentError(
                f"the process of {module} gave no sign of progress for {silent.timeout:g} s"
                f" (supervision.start_s, supervision.trainer_silence_s) and was ended."
                f" {_end_of(log_path)}"
            ) from None
        # Also when this process is interrupted: an orphan would hold the GPU.
        finally:
            children.kill_group(child.pid)
            child.wait()
    if failure is not None:
        raise failure
    if code:
        raise _death(module, code, log_path, begin)


def _death(module: str, code: int, log_path: Path, begin: int) -> TrainingError:
    """Why a child ended that had reported nothing."""
    said = f"the process of {module} {children.how_it_ended(code)}"
    # A launcher of several processes ends with a status of its own and says what killed them.
    by_launcher = KILLED_BELOW.search(children.last_lines(log_path, since=begin))
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or by_launcher:
        return OutOfMemoryError(
            f"{said}, as the system does where memory runs out. {_end_of(log_path)}"
        )
    return TrainingError(f"{said}. {_end_of(log_path)}")


def _end_of(log_path: Path) -> str:
    return f"The last lines of its log {log_path}:\n{children.last_lines(log_path)}"


class _SilentError(Exception):
    """No sign of progress for `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout


def _lines(stream: IO[bytes], limits: TimeLimits) -> Iterator[bytes]:
    """The child's lines to their end.

    Raises:
        _SilentError: none of them was a message for too long. What a library prints is no progress.
    """
    limit_s, since, rest = limits.start_s, time.monotonic(), b""
    while True:
        left_s = since + limit_s - time.monotonic()
        if not select.select([stream], [], [], max(0.0, left_s))[0]:
            raise _SilentError(limit_s)
        chunk = os.read(stream.fileno(), CHUNK_BYTES)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(MARK.encode()):
                limit_s, since = limits.silence_s, time.monotonic()
            yield line + b"\n"
        if len(rest) > CHUNK_BYTES:
            yield rest
            rest = b""
        # Where a library prints without end, there always is something to read.
        if time.monotonic() > since + limit_s:
            raise _SilentError(limit_s)
    if rest:
        yield rest


def _listen(
    lines: Iterable[bytes], log: IO[bytes], on_progress: Callable[[int, int], None]
) -> OuroloopError | None:
    """Follow the child's output to its end; returns the error that it reported, if any."""
    failure: OuroloopError | None = None
    for line in lines:
        message = _message_in(line)
        if message is None:
            log.write(line)
            log.flush()
        # Of several processes' errors the cause is the one of memory: the others follow from it.
        elif "error" in message and not isinstance(failure, OutOfMemoryError):
            failure = errors.named(message["error"], str(message.get("message")), TrainingError)
        elif "done" in message:
            on_progress(message["done"], message["total"])
    return failure


def _message_in(line: bytes) -> dict[str, Any] | None:
    """A message for the parent; None for what belongs to the log: progress bars, damaged lines."""
    if not line.startswith(MARK.encode()):
        return None
    try:
        found = json.loads(line[len(MARK) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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
        def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # A step of many accumulated batches takes minutes on a small device.
            heartbeat.beat()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                report(done=state.global_step, total=state.max_steps)

    return Progress()


def report(**message: Any) -> None:
    """In the child: send a message to the parent, if there is one."""
    if os.environ.get(WATCH):
        print(MARK + json.dumps(message), flush=True)
