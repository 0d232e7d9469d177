"""The lock of a run: one process works on it at a time, on one host or on several.

On one host `flock` decides, which the system lets go when a process ends, however it ends. Storage
that several hosts share need not pass it on, so LOCK also says who holds the run, with the time of
its last sign of life. After STALE_SECONDS without one another host may take the run over.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop.errors import RunStateError

LOCK = "LOCK"
BEAT_SECONDS = 15.0
# Eight signs must be missed: clocks of two hosts differ by seconds, and a storage may hang longer.
STALE_SECONDS = 120.0
# A process that was killed while it started another may leave it with its files, until that one
# begins its own program.
LEFT_OVER_SECONDS = 5.0
# One write of one size: whoever reads meanwhile sees the old text or the new one.
_WIDTH = 256


@dataclass(frozen=True)
class Holder:
    """Who holds a run. boot: tells hosts apart, also those of one name. time: in seconds."""

    pid: int
    host: str
    boot: str
    time: float

    @classmethod
    def here(cls) -> Holder:
        """This process, now."""
        return cls(os.getpid(), socket.gethostname(), boot_id(), time.time())

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """What LOCK says; None where nobody holds it."""
        parts = text.replace("\0", " ").split()
        try:
            # An earlier version wrote the process alone, and knew one host.
            pid, host, boot, at = (*parts, "?", boot_id(), "0")[:4] if len(parts) == 1 else parts
            return cls(int(pid), host, boot, float(at))
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """What LOCK holds."""
        return f"{self.pid} {self.host} {self.boot} {self.time:.3f}"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host, where flock decides."""
        return self.boot == boot_id()

    @property
    def silent_s(self) -> float:
        """Seconds since its last sign of life."""
        return max(0.0, time.time() - self.time)

    @property
    def is_fresh(self) -> bool:
        """Whether it gave a sign of life a short time ago."""
        return self.silent_s < STALE_SECONDS

    def refusal(self, where: str) -> RunStateError:
        """What another host is answered that wants the run; `where`: its folder or address."""
        return RunStateError(
            f"{where}: held by process {self.pid} on {self.host}, whose last sign of life was"
            f" {self.silent_s:.0f} s ago. End it there; if that host is gone, try again when"
            f" {STALE_SECONDS:g} s have passed without one."
        )


class Lock:
    """A run's lock in this process, which gives signs of life until it is closed."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path, self.closed = path, False
        self._descriptor = descriptor
        self._me = Holder.here()
        self._taken_by: Holder | None = None
        self._ended = threading.Event()
        self._write(self._me.text)
        threading.Thread(target=self._beat, daemon=True).start()

    def refuse_lost(self) -> None:
        """Refuse to go on with a run that another host has taken over.

        Raises:
            RunStateError: names it.
        """
        other = self._taken_by
        if other is not None:
            raise RunStateError(
                f"{self.path.parent}: taken over by process {other.pid} on {other.host}, because"
                f" this one gave no sign of life for {STALE_SECONDS:g} s (its machine slept, or the"
                " storage hung). Nothing more is written here."
            )

    def close(self) -> None:
        """Let the run go. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._ended.set()
        # Another host need not wait for a run that ended well.
        if self._taken_by is None:
            with suppress(OSError):
                self._write("")
        os.close(self._descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                found = _read(self.path)
                if found is not None and (found.boot, found.pid) != (self._me.boot, self._me.pid):
                    self._taken_by = found
                    return
                self._write(Holder.here().text)

    def _write(self, text: str) -> None:
        os.pwrite(self._descriptor, text.ljust(_WIDTH).encode(), 0)


def locked(path: Path) -> Lock:
    """Take a run's lock, which is held until it is closed.

    Raises:
        RunStateError: another process holds it; names it.
    """
    file = path / LOCK
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    if not _take(descriptor, file):
        holder = _read(file)
        os.close(descriptor)
        who = f"process {holder.pid}" if holder else "another process"
        if holder and not holder.is_here:
            who += f" on {holder.host}"
        raise RunStateError(
            f"{path}: held by {who}. Watch it with `ouroloop watch {path.name}`, or end that"
            " process first."
        )
    holder = _read(file)
    if holder is not None and not holder.is_here and holder.is_fresh:
        os.close(descriptor)
        raise holder.refusal(str(path))
    return Lock(descriptor, file)


def _take(descriptor: int, file: Path) -> bool:
    """Whether the lock is this process's now."""
    until = time.monotonic() + LEFT_OVER_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        holder = _read(file)
        if holder is None or not holder.is_here or _runs(holder.pid) or time.monotonic() > until:
            return False
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def is_held(lock: Path) -> bool:
    """Whether a living process holds LOCK, here or on another host.

    The file stays behind; the lock on it does not.
    """
    holder = _read(lock)
    if holder is None:
        return False
    if not holder.is_here:
        return holder.is_fresh
    if not _runs(holder.pid):
        return False
    # The number may have gone to another process since: the lock decides.
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def boot_id() -> str:
    """Differs between any two hosts, and between two starts of one; containers share their host's.

    That is right here: they share its flock too.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()


def _read(path: Path) -> Holder | None:
    try:
        return Holder.read(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
