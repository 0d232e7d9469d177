"""How a run ends when somebody ends it: the children first, then the process itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@contextmanager
def children_end_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end a run through every `finally`, which closes engines and ends trainings.

    By default it would end this process at once. Its children notice that their standard input has
    ended, but only once the library that they are in lets Python go on.
    """

    def unwind(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
