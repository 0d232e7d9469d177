"""The per-sample fence: what a reader of untrusted text raises becomes a value, not a crash.

A text is journalled before it is read. If reading it raised, every resume would meet the same
text and raise again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

MAX_MESSAGE = 200
"""Characters of an error's message that are kept: a message may quote the whole hostile text."""

# Half of a surrogate pair: legal in a Python string, illegal in UTF-8.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Unreadable:
    """Why a reader gave nothing for one text: which reader, the error's type, its message."""

    reader: str
    error: str
    message: str

    @property
    def label(self) -> str:
        """What such failures are counted by: "ValueError in dataflow"."""
        return f"{self.error} in {self.reader}"


def attempt(
    reader: str,
    function: Callable[..., T],
    *args: object,
    passing: tuple[type[Exception], ...] = (),
) -> T | Unreadable:
    """`function(*args)`, or why it could not be had.

    Every `Exception` is data here, RecursionError and MemoryError too: one hostile text is enough
    for either ("1e999999999" as an exact number), and both leave the process intact, since the
    stack is unwound and the large block was never given. What is not about the text goes through:
    KeyboardInterrupt, SystemExit, a cancelled task, and `passing`.

    Args:
        reader: its name, for counts and messages.
        function: a grader, step checker, strategy reader or corrupter, ours or a plugin's.
        args: what it is called with.
        passing: errors that are raised all the same, such as "this extra is not installed": no
            text is the cause of it, and every sample would be unreadable.
    """
    try:
        return function(*args)
    except passing:
        raise
    except Exception as error:
        _log.debug("%s could not read a text", reader, exc_info=True)
        return Unreadable(reader, type(error).__name__, _message(error))


def well_formed(text: str) -> str:
    r"""`text` with every lone surrogate replaced by U+FFFD; other texts are returned as they are.

    JSON can spell half a surrogate pair ("\ud800"), and a Python string can hold it. Nothing
    behind can: UTF-8, hashes, Parquet, tokenizers and terminals all raise. So it is replaced
    where a text enters: in an engine's completion, in a file of problems, in a row of traces.
    """
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _message(error: Exception) -> str:
    try:
        return well_formed(str(error)[:MAX_MESSAGE])
    except Exception:  # a plugin's error may fail to describe itself
        return ""
