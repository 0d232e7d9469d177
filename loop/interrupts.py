"""How a run ends when somebody ends it: the children first, then the process itself, in a second.

Whatever is on disk may be cut off at any moment without loss (RELIABILITY.md), so nothing is
unwound: a `finally` can wait for what hangs, and asyncio's own end took seconds.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ouroloop.loop.engines import children

# What writing the event and the last words may take: a disk may hang as well.
GRACE_SECONDS = 0.7
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A progress bar hides the terminal's cursor.
SHOW_CURSOR = "\x1b[?25h"


@dataclass
class _Run:
    """The run at work. event: writes into its events."""

    path: Path
    event: Callable[..., None]
    is_recorded: bool = False


_run: _Run | None = None


def resume_command(path: Path) -> str:
    """What continues a run, from any folder."""
    return f"ouroloop resume {shlex.quote(str(path))}"


def at_work(path: Path, event: Callable[..., None]) -> None:
    """From now on an interruption is one of this run; `event` writes into its events."""
    global _run
    _run = _Run(path, event)


def record(number: int = signal.SIGINT) -> None:
    """Write `run_interrupted` into the run's events, once."""
    if _run is None or _run.is_recorded:
        return
    _run.is_recorded = True
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):
        _run.event("run_interrupted", signal=name, resume=resume_command(_run.path))


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM end this process within a second, its children first.

    A second thread does it, because in a library's own code Python's handlers do not run. The main
    thread's handler only keeps it from going on meanwhile.
    """
    global _run
    _run = None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # A shell starts what it puts into the background with SIGINT ignored; so it stays.
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    guard = threading.Thread(target=_guard, args=(reader, frozenset(handled)), daemon=True)
    guard.start()
    # The system's handler itself writes the signal's number here, whatever the main thread does.
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _stand_still) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(wakeup_before)
        os.close(writer)
        guard.join()
        os.close(reader)


def _stand_still(number: int, frame: FrameType | None) -> None:
    """In the main thread: nothing is started, asked or written any more."""
    while True:
        time.sleep(1)


def _guard(reader: int, handled: frozenset[int]) -> None:
    """Wait for a signal, or for the end of the pipe."""
    while received := os.read(reader, 1):
        if received[0] in handled:
            _end(received[0])


def _end(number: int) -> None:
    # What a shell reports of a process that a signal ended, so that scripts see no difference.
    code = 128 + number
    try:
        children.kill_all()
        # Before anything is written: a disk that hangs must not keep the process.
        deadline = threading.Timer(GRACE_SECONDS, os._exit, (code,))
        deadline.daemon = True
        deadline.start()
        record(number)
        text = "interrupted before a run began; there is nothing to resume."
        if _run is not None:
            command = resume_command(_run.path)
            text = f"interrupted; what was finished is kept. Go on with: {command}"
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        # Not print: the main thread may stand still within one, and hold its lock.
        os.write(2, f"{cursor}\nouroloop: {text}\n".encode())
    finally:
        os._exit(code)
