"""How a run ends when somebody ends it: the children first, then the process itself, in a second.

Whatever is on disk may be cut off at any moment without loss, so nothing is waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ouroloop.loop.engines import children

# What the run's own `finally` blocks may take. Then the process ends, whatever it is doing.
GRACE_SECONDS = 0.7
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@dataclass
class _Interruption:
    """What is known of the run at work, and what was done already; two threads work on it."""

    path: Path | None = None
    event: Callable[..., None] | None = None
    number: int | None = None
    is_recorded: bool = False
    is_said: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


_now = _Interruption()


def resume_command(path: Path) -> str:
    """What continues a run, from any folder."""
    return f"ouroloop resume {shlex.quote(str(path))}"


def at_work(path: Path, event: Callable[..., None]) -> None:
    """From now on an interruption is one of this run; `event` writes into its events."""
    global _now
    _now = _Interruption(path, event, _now.number)


def record() -> None:
    """Write `run_interrupted` into the run's events, once."""
    now = _now
    with now.lock:
        if now.is_recorded or now.event is None or now.path is None:
            return
        now.is_recorded = True
        name = signal.Signals(now.number or signal.SIGINT).name
        with contextlib.suppress(OSError):
            now.event("run_interrupted", signal=name, resume=resume_command(now.path))


def say() -> None:
    """Print how to go on, once."""
    now = _now
    with now.lock:
        if now.is_said:
            return
        now.is_said = True
    text = "interrupted before a run began; there is nothing to resume."
    if now.path is not None:
        text = f"interrupted; what was finished is kept. Go on with: {resume_command(now.path)}"
    print(f"ouroloop: {text}", file=sys.stderr, flush=True)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM end this process within a second, its children first.

    The main thread unwinds through every `finally`. A second thread kills the children meanwhile,
    and ends the process where that takes longer than a moment: in a library's own code Python's
    handlers do not run. A second signal ends it at once.
    """
    global _now
    _now = _Interruption()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The system's handler itself writes the signal's number here, whatever the main thread does.
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A shell starts what it puts into the background with SIGINT ignored; so it stays.
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _unwind) for number in handled}
    guard = threading.Thread(target=_guard, args=(reader, frozenset(handled)), daemon=True)
    guard.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        os.close(writer)
        # After a signal the guard stays until the process is gone: its end may hang as well.
        if _now.number is None:
            guard.join()


def _unwind(number: int, frame: FrameType | None) -> None:
    """In the main thread. The guard takes care of a second signal."""
    if _now.number is None:
        _now.number = number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _guard(reader: int, handled: frozenset[int]) -> None:
    number = _next_signal(reader, handled)
    if number is None:
        os.close(reader)
        return
    until = time.monotonic() + GRACE_SECONDS
    children.kill_all()
    # None may also mean that the main thread is about to end by itself: it has its time.
    if _next_signal(reader, handled, GRACE_SECONDS) is None:
        time.sleep(max(0.0, until - time.monotonic()))
    # What was started at the moment of the signal.
    children.kill_all()
    _now.number = _now.number or number
    record()
    say()
    os._exit(128 + number)


def _next_signal(reader: int, handled: frozenset[int], seconds: float | None = None) -> int | None:
    """The number of the next signal; None at the end of the pipe, or after so many seconds."""
    while select.select([reader], [], [], seconds)[0]:
        received = os.read(reader, 1)
        if not received:
            return None
        if received[0] in handled:
            return received[0]
    return None
