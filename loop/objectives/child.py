"""Run a heavy Python module in a child process that reports to its parent and dies with it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
# A waiting child has its job: no step of the work, so its time to start goes on.
TAKEN = {"taken": True}
# Set in the child's environment: it has a parent to report to, and standard input to watch.
WATCH = "OUROLOOP_WATCH_STDIN"
# Where a recipe's `supervision` is not given.
LIMITS = TimeLimits(start_s=1800.0, silence_s=1800.0)
CHUNK_BYTES = 2**16
# How accelerate and torch's launcher say that a process of theirs was killed.
KILLED_BELOW = re.compile(r"Signals\.SIGKILL|Signal 9 \(SIGKILL\)|exitcode\s*:\s*-9\b")


@dataclass
class Ending:
    """How a job ended.

    code: exit code of the process that did it. failure: what it reported. began: whether it gave a
    sign at all. waits: the child outlives the job and waits for the next one.
    """

    code: int = 0
    failure: OuroloopError | None = None
    began: bool = False
    waits: bool = False


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
    # Earlier attempts wrote into the same log.
    begin = size_of(log_path)
    with log_path.open("ab") as log:
        child = start(module, arguments, log)
    try:
        ending = follow(child, module, log_path, on_progress, limits)
    # Also when this process is interrupted: an orphan would hold the GPU.
    finally:
        end(child)
    raise_failure(ending, module, log_path, begin)


def start(module: str, arguments: list[str], errors_to: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments`; it leads a process group."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors_to,
        env={**children.environment(), WATCH: "1"},
        start_new_session=True,
    )
    children.started(child.pid)
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child and what it started. Safe twice."""
    children.kill_group(child.pid)
    child.wait()
    # A launcher's processes lead groups of their own: the end of this pipe ends them.
    for stream in (child.stdin, child.stdout):
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()


def follow(
    child: subprocess.Popen[bytes],
    module: str,
    log_path: Path,
    on_progress: Callable[[int, int], None],
    limits: TimeLimits,
) -> Ending:
    """Hear a child out until its job, or itself, has ended.

    Raises:
        TrainerSilentError: no sign of progress for too long. The child still runs.
    """
    assert child.stdout is not None
    try:
        with log_path.open("ab") as log:
            ending = _listen(_lines(child.stdout, limits), log, on_progress)
        if not ending.waits:
            ending.code = child.wait(limits.silence_s)
        return ending
    except (_SilentError, subprocess.TimeoutExpired) as silent:
        raise TrainerSilentError(
            f"the process of {module} gave no sign of progress for {silent.timeout:g} s"
            f" (supervision.start_s, supervision.trainer_silence_s) and was ended."
            f" {_end_of(log_path)}"
        ) from None


def raise_failure(ending: Ending, module: str, log_path: Path, begin: int) -> None:
    """Nothing where the job ended well. begin: the length of its log before it, in bytes.

    Raises:
        OuroloopError: see `run_child`.
    """
    if ending.failure is not None:
        raise ending.failure
    if ending.code:
        raise _death(module, ending.code, log_path, begin)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


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
            if line.startswith(MARK.encode()) and _message_in(line) != TAKEN:
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
) -> Ending:
    """Follow the child's output to the end of its job; without the code of a child that ends."""
    ending = Ending()
    for line in lines:
        message = _message_in(line)
        if message is None:
            log.write(line)
            log.flush()
            continue
        ending.began = True
        # Of several processes' errors the cause is the one of memory: the others follow from it.
        if "error" in message and not isinstance(ending.failure, OutOfMemoryError):
            said = str(message.get("message"))
            ending.failure = errors.named(message["error"], said, TrainingError)
        elif "done" in message:
            on_progress(message["done"], message["total"])
        elif "ended" in message:
            ending.code, ending.waits = int(message["ended"]), True
            break
    return ending


def _message_in(line: bytes) -> dict[str, Any] | None:
    """A message for the parent; None for what belongs to the log: progress bars, damaged lines."""
    if not line.startswith(MARK.encode()):
        return None
    try:
        found = json.loads(line[len(MARK) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _follow_parent(orders: queue.SimpleQueue[str]) -> None:
    """Hand the parent's lines on; end when there can be no more."""
    # Blocks until the parent's end of the pipe closes, even if the parent was killed.
    rest = b""
    while chunk := os.read(0, CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            orders.put(line.decode())
    end_group()


def watch_parent() -> queue.SimpleQueue[str]:
    """In the child: end when the parent ends, however it ends; the lines that it writes."""
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    if os.environ.get(WATCH):
        threading.Thread(target=_follow_parent, args=(orders,), daemon=True).start()
    return orders


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
