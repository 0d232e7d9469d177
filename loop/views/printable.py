"""Text for a terminal: what a model or a file wrote may hold characters that a terminal obeys."""

from __future__ import annotations

import re

# Whole escape sequences first (colours, titles, links), so that no remains of one are shown; then
# every other control character but line feed and tab, and the marks that turn the writing round.
_OBEYED = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]P^_X][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """The text with a replacement character for everything that a terminal would obey."""
    return _OBEYED.sub("\ufffd", text)
