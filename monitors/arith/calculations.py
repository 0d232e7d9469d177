"""Reading the calculations of a text: "She sold 48/2 = <<48/2=24>>24 clips" -> 48/2=24.

In one pass, nothing is evaluated.

At most the first `MAX_CHARS` of a text are read. Of a line with <<...>> notes only the notes count.
A number of more than `MAX_DIGITS` is not read: an expression ends where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ouroloop.monitors.arith.expressions import (
    MAX_TOKENS,
    OPERATORS,
    UnreadableError,
    parse,
    plain_number,
    value,
)

MAX_CHARS = 20_000
MAX_CALCULATIONS = 200
MAX_UNIT_WORDS = 3

_NOTE = re.compile(r"<<([^<>\n]{1,200})>>")
_BULLET = re.compile(r"^\s*(?:[-*•>]\s+|\(?\d{1,2}[.)]\s+(?!\s*[-+*/×÷=]))")
_TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)|(?P<sign>[+\-*/×÷−–()=]|(?<![A-Za-z])[xX](?![A-Za-z]))"
    r"|(?P<word>[A-Za-z_][A-Za-z_'’]*)|(?P<skip>[ \t$€£%]+)|(?P<other>.)",
    re.S | re.ASCII,
)
_SPOKEN = {"plus": "+", "minus": "-", "less": "-", "times": "*", "divided": "/", "over": "/"}
_SPOKEN_EQUALS = ("is", "equals", "makes", "gives", "are")
_SAME = {"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-"}


@dataclass(frozen=True)
class Calculation:
    """`left`: the tokens of an expression with an operator between numbers.

    `result`: the number it is said to come to.
    """

    left: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return "".join(self.left) + "=" + self.result


def calculations(text: str) -> list[Calculation]:
    """Every "expression = number" with an operator between numbers, in order.

    Thousands commas, "$", "%", blanks and units are dropped: "3 bushes * 25 roses/bush = 75" is
    3*25=75. × ÷ − and a free-standing x are * / - *, so is "of" after a fraction, and "40 plus 30
    is 70" is 40+30=70. "2+3=5+4=9" is a running total, "3*4+2*5=12+10=22" one calculation.
    """
    found: list[Calculation] = []
    for line in text[:MAX_CHARS].splitlines():
        notes = _NOTE.findall(line)
        for part in notes or [_BULLET.sub("", line)]:
            found += _of_line(part)
        if len(found) >= MAX_CALCULATIONS:
            break
    return found[:MAX_CALCULATIONS]


def expressions(text: str) -> Iterator[tuple[str, ...]]:
    """Expressions that stand alone on a line and are given no result, "47+35" or "47+?=82".

    The problem in signs.
    """
    for line in text[:MAX_CHARS].splitlines():
        if (
            len(line) <= MAX_UNIT_WORDS * 40
            and re.fullmatch(r"[\d.,$ ?()+\-*/×÷−–=]+", line)
            and not calculations(line)
        ):
            numbers = (plain_number(m[0]) for m in _TOKEN.finditer(line) if m.lastgroup == "number")
            yield tuple(number for number in numbers if number is not None)


def _of_line(line: str) -> list[Calculation]:
    reader = _Line()
    tokens = [(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(line) if m.lastgroup != "skip"]
    for (kind, token), (_, after) in pairwise([*tokens, ("end", "")]):
        plain = plain_number(token) if kind == "number" else None
        if plain is not None:
            reader.number(plain)
        elif kind == "word":
            reader.word(token, after)
        elif kind == "sign":
            reader.sign(_SAME.get(token, token), after)
        # other characters, and a number of more than MAX_DIGITS: int() itself refuses 4,301 digits
        else:
            reader.stop()
    reader.stop()
    return reader.found


@dataclass
class _Line:
    """The state of reading a line.

    The expression whose "=" has come (`waiting`), and the side being read.
    """

    found: list[Calculation] = field(default_factory=list)
    waiting: list[str] | None = None
    side: list[str] = field(default_factory=list)
    unit_words: int = 0

    @property
    def _complete(self) -> bool:
        return bool(self.side) and (self.side[-1] == ")" or self.side[-1][-1].isdigit())

    def number(self, token: str) -> None:
        if self._complete:
            self.stop()
        if self.side == ["-"]:
            token, self.side = "-" + token, []
        self.side.append(token)
        self.unit_words = 0

    def word(self, word: str, after: str) -> None:
        fraction = self._complete and "/" in self.side[-2:-1]
        operand_follows = after[:1].isdigit() or after[:1] in (".", "(")
        if word == "of" and fraction and not self.unit_words and operand_follows:
            self.side.append("*")
        elif (
            word in _SPOKEN
            and self._complete
            and (operand_follows or (word == "divided" and after == "by"))
        ):
            self.sign(_SPOKEN[word], "")
        elif word == "by" and self.side[-1:] == ["/"]:
            pass  # divided by
        elif word in _SPOKEN_EQUALS and operand_follows and calculates(trimmed(self.side)):
            self._close(more=True)
        elif self._complete and self.unit_words < MAX_UNIT_WORDS:
            self.unit_words += 1
        else:
            self.stop()

    def sign(self, sign: str, after: str) -> None:
        if len(self.side) > MAX_TOKENS:
            self.stop()
        if sign == "=":
            self._close(more=True)
        elif sign in "/-" and self._complete and after[:1].isalpha() and after not in ("x", "X"):
            self.unit_words += 1  # 25 roses/bush, 15-minute
        elif sign == "(" and self._complete:
            self.stop()
            self.side.append("(")
        elif sign == ")" and self.side.count("(") <= self.side.count(")"):
            self.stop()
        else:
            self.side.append(sign)
            self.unit_words = 0

    def stop(self) -> None:
        """End here: prose, punctuation or the end of the line."""
        self._close(more=False)
        self.waiting, self.side = None, []

    def _close(self, more: bool) -> None:
        """End a side; `more`: by "=", so that another follows."""
        side, self.side, self.unit_words = trimmed(self.side), [], 0
        if (
            self.waiting is not None
            and side
            and side[0][-1].isdigit()
            and not self._rewritten(side, more)
        ):
            self.found.append(Calculation(tuple(self.waiting), side[0]))
            self.waiting = None
        if self.waiting is None or not side:
            self.waiting = side if more and calculates(side) else None

    def _rewritten(self, side: list[str], more: bool) -> bool:
        """Whether `side` is what is waited for, written otherwise.

        3*4+2*5 = 12+10, with its result still to come.
        """
        if not (more and calculates(side)):
            return False
        try:
            left, first, right = (
                value(parse(tokens)) for tokens in (self.waiting or [], side[:1], side)
            )
        except UnreadableError:
            return False
        return left is not None and left != first and left == right


def calculates(side: list[str]) -> bool:
    """Whether an operator stands between two numbers and the expression ends in a number or a bracket."""
    numbers = [i for i, token in enumerate(side) if token[-1].isdigit()]
    if len(numbers) < 2 or (side[-1] != ")" and not side[-1][-1].isdigit()):
        return False
    return any(token in OPERATORS for token in side[numbers[0] + 1 : numbers[-1]])


def trimmed(side: list[str]) -> list[str]:
    """Without operators before the first number or bracket (list dashes) and without unmatched outer brackets."""
    start, stop = 0, len(side)
    while start < stop and side[start] in OPERATORS:
        start += 1
    surplus = side.count("(") - side.count(")")
    while surplus > 0 and start < stop and side[start] == "(":
        start, surplus = start + 1, surplus - 1
    while surplus < 0 and start < stop and side[stop - 1] == ")":
        stop, surplus = stop - 1, surplus + 1
    return side[start:stop]
