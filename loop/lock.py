"""The lock of a run: one process works on it at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from ouroloop.loop.errors import RunStateError

LOCK = "LOCK"


def locked(path: Path) -> IO[str]:
    """Take a run's lock, which is held until the file is closed.

    Raises:
        RunStateError: another process holds it; names it.
    """
    # flock is let go by the system when the process ends, however it ends: no stale lock.
    lock = (path / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise RunStateError(
            f"{path}: held by process {holder}. Watch it with `ouroloop watch {path.name}`, or end"
            " that process first."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def is_held(lock: Path) -> bool:
    """Whether a living process holds LOCK.

    The file stays behind with its number; the lock on it does not.
    """
    # The number may have gone to another process since: the lock decides.
    try:
        os.kill(int(lock.read_text().split()[0]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, IndexError):
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
