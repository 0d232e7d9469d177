"""Signs of progress that a child process gives its parent, which ends it when they stop coming.

The code that does the work gives them, so a thread that hangs gives none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# A parent counts in parts of its limit: several signs must fit into one.
SIGNS_PER_LIMIT = 8
MAX_SECONDS_BETWEEN = 1.0

# State of the module: a worker is a process of its own, and whatever does the work (vLLM's steps,
# a tokenizer's loop, the trainer) can call `beat` without being handed an object.
_send: Callable[[], None] | None = None
_seconds_between = MAX_SECONDS_BETWEEN
_last = 0.0


def begin(send: Callable[[], None], limit_s: float) -> None:
    """In a child: from now on `beat` calls `send`, often enough for a limit of so many seconds."""
    global _send, _seconds_between
    _send, _seconds_between = send, min(MAX_SECONDS_BETWEEN, limit_s / SIGNS_PER_LIMIT)


def beat() -> None:
    """Something was done. Cheap, and nothing at all where no parent listens."""
    global _last
    now = time.monotonic()
    if _send is not None and now - _last >= _seconds_between:
        _last = now
        _send()
