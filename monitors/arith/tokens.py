"""One line of text as tokens: numbers with their values, words, signs, calculator notes.

A calculator note is GSM8K's annotation of a calculation, `48/2 = <<48/2=24>>24`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from ouroloop.monitors.arith.numbers import DIGITS, to_fraction


class Kind(Enum):
    """What a token is."""

    NUMBER = "number"
    CLOCK = "clock"
    WORD = "word"
    SIGN = "sign"
    NOTE = "note"
    OTHER = "other"
    END = "end"


class Token(NamedTuple):
    """A piece of a line. Blanks and currency signs are no tokens.

    Attributes:
        kind: what it is.
        text: as written; of a note what stands between << and >>.
        glued: no blank and no currency sign stands before it.
        value: of a number or a clock's hour, else None; None too for digits that are no number
            here (too many of them, or `0900`).
    """

    kind: Kind
    text: str
    glued: bool
    value: Fraction | None = None

    @property
    def places(self) -> int:
        """Decimal places of a number as written."""
        return len(self.text.partition(".")[2])


END = Token(Kind.END, "", False)
"""Stands after the last token, so that a reader can always look one ahead."""

_TOKEN = re.compile(
    r"<<(?P<note>[^<>\n]{0,200})>>"
    r"|(?P<gap>[\s$€£¥]+)"
    # 2 1/2; whether it is a mixed number or two numbers is decided in `_mixed`
    r"|(?<![0-9.,/])(?P<whole>[0-9]{1,6}) (?:and )?"
    r"(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,2})(?![0-9.,]*[0-9])(?P<equals>\s*=)?"
    r"|(?P<clock>(?<![0-9.])(?:[01]?[0-9]|2[0-4]):[0-5][0-9](?![0-9]))"
    rf"|(?P<number>{DIGITS})"
    # a hyphen belongs to a word between letters: semi-automatic, but not x-y
    r"|(?P<word>[A-Za-z_](?:[A-Za-z_'’]|-(?=[A-Za-z]{2}))*)"
    r"|(?P<sign>[-+*/()=%])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_KINDS = {kind.value: kind for kind in Kind}


def tokens(line: str) -> list[Token]:
    """The tokens of a line whose signs are plain (`numbers.plain`)."""
    found: list[Token] = []
    glued = False
    after_equals = False
    for match in _TOKEN.finditer(line):
        group = match.lastgroup
        if group == "gap":
            glued = False
            continue
        text = match[0]
        if group == "number":
            found.append(Token(Kind.NUMBER, text, glued, _number(text)))
        elif group in ("bottom", "equals"):
            found += _mixed(match, glued, after_equals)
        elif group == "clock":
            found.append(Token(Kind.CLOCK, text, glued, Fraction(int(text.partition(":")[0]))))
        elif group == "note":
            # A note is invisible to its neighbours: `=<<1+1=2>>2` is glued as `=2` is.
            found.append(Token(Kind.NOTE, match["note"], glued))
            continue
        else:
            found.append(Token(_KINDS[str(group)], text, glued))
        after_equals = text.endswith("=")
        glued = True
    return found


def _mixed(
    match: re.Match[str],
    glued: bool,
    after_equals: bool,
) -> Iterator[Token]:
    """`2 1/2` as the number 5/2, or as its four parts where that is no mixed number.

    In `= 5 1/2 =` the 5 may be a result and the fraction the start of the next calculation.
    """
    whole, top, bottom = (match[name] for name in ("whole", "top", "bottom"))
    if 0 < int(top) < int(bottom) and not (after_equals and match["equals"]):
        value = int(whole) + Fraction(int(top), int(bottom))
        yield Token(Kind.NUMBER, f"{whole} {top}/{bottom}", glued, value)
    else:
        yield Token(Kind.NUMBER, whole, glued, _number(whole))
        yield Token(Kind.NUMBER, top, False, _number(top))
        yield Token(Kind.SIGN, "/", True)
        yield Token(Kind.NUMBER, bottom, True, _number(bottom))
    if match["equals"]:
        yield Token(Kind.SIGN, "=", not match["equals"][0].isspace())


def _number(digits: str) -> Fraction | None:
    """The value of digits; None for what only looks like a number: 0900 hours, 350 000."""
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return None
    return to_fraction(digits)
