"""Reading equations out of prose: text -> chains of sides, each side an exact value.

Only + - * / ( ), decimals and percent signs: a tokeniser, a small reader that skips units and
prose, and a recursive-descent parser on Fractions. Nothing is evaluated by Python, every length is
capped. A side with an unknown, a power or anything unclear is read as None: left out rather than
guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from ouroloop.evals.numerals import DIGITS, plain, spell, to_fraction

MAX_TOKENS = 64
"""Tokens on one side at most."""
MAX_DEPTH = 16
MAX_UNIT_WORDS = 3

_BULLET = re.compile(r"^\s*(?:[-*•>]\s+|\(?[0-9]{1,2}[.)]\s+(?!\s*[-+*/×÷]\s))+")
"""What may begin a line: a bullet or a number, unless an operator follows.

`(2) + 3 = 5` is a sum.
"""

_BOLD = re.compile(r"(?<![\w)])\*\*([^*\n]+)\*\*")
_MIXED = re.compile(
    r"(?P<equals>=\s*\$?)?(?<![0-9.,/])(?P<whole>[0-9]{1,6}) (?:and )?"
    r"(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,2})(?![0-9.,]*[0-9])(?P<more>\s*=)?"
)
_TOKEN = re.compile(
    rf"(?P<clock>[0-9]{{1,2}}:[0-5][0-9](?![0-9]))|(?P<number>{DIGITS})|"
    r"(?P<word>[A-Za-z_][A-Za-z_'’]*)|(?P<mark>[-+*/()=%])|(?P<gap>[\s$€£¥]+)|(?P<other>.)",
)
_PROSE = (
    " a all also an and are as at because but by equals for from gets had has have he her his how i"
    " if is it left makes means more needs on or she since so that the then there they this to"
    " total was we were when which while will with you "
)
"""Words that are never a unit: here the prose goes on."""


class UnreadableError(ValueError):
    """A side is not arithmetic that this module reads."""


@dataclass(frozen=True)
class Side:
    """One side of an equation.

    tokens: numbers, signs and brackets. values: what it comes to, () for a division by zero, two
    where a percent sign can be read as /100 or as a unit. unit: the words that stood after its last
    number.
    """

    tokens: tuple[str, ...]
    values: tuple[Fraction, ...]
    unit: str = ""

    @property
    def is_number(self) -> bool:
        """A bare number, signed or not: nothing is calculated here."""
        return len(self.tokens) == 1 or (len(self.tokens) == 2 and self.tokens[0] == "-")

    @property
    def places(self) -> int:
        """Decimal places of a bare number as written, 0 otherwise."""
        return len(self.tokens[-1].rstrip("%").partition(".")[2]) if self.is_number else 0

    def __str__(self) -> str:
        return "".join(_spell_token(token) for token in self.tokens)


def chains(line: str) -> Iterator[list[Side | None]]:
    """Every chain `side = side = ...` of a line, in order.

    None stands for a side that cannot be read.
    """
    line = _MIXED.sub(_bracket_mixed, _BOLD.sub(r"\1", _BULLET.sub("", plain(line))))
    reader = _Reader()
    tokens = [(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(line)]
    for index, (kind, token) in enumerate(tokens):
        following = next(
            (later for later in tokens[index + 1 : index + 3] if later[0] != "gap"), ("end", "")
        )
        glued = (
            index > 0 and tokens[index - 1][0] != "gap",
            index + 1 < len(tokens) and tokens[index + 1][0] != "gap",
        )
        finished = reader.read(kind, token, following, glued)
        if finished:
            yield finished
    if finished := reader.stop():
        yield finished


@dataclass
class _Reader:
    """The state of reading one line: the chain so far and the side being read."""

    chain: list[Side | None] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    unit: list[str] = field(default_factory=list)
    unclear: bool = False
    after_word: bool = False

    def read(
        self, kind: str, token: str, following: tuple[str, str], glued: tuple[bool, bool]
    ) -> list[Side | None]:
        """Take one token.

        Returns a chain that it ended, or []. glued: whether it touches the token before it, and the
        one after it.
        """
        if kind in ("number", "clock"):
            return self._number(token, glued[0])
        if kind == "word":
            return self._word(token, following, glued[0])
        if kind == "mark":
            return self._mark(token, following, glued)
        if kind == "other":
            self.unclear = self.unclear or token == "^"
            return [] if token == "^" else self.stop()
        return []

    def stop(self, after_word: bool = False) -> list[Side | None]:
        """End the chain here: prose, punctuation or the end of the line."""
        if self.chain:
            self._close_side()
        ended, self.chain = self.chain, []
        self.tokens, self.unit, self.unclear, self.after_word = [], [], False, after_word
        return ended if len(ended) > 1 else []

    @property
    def _complete(self) -> bool:
        """Whether the side so far ends in an operand."""
        return bool(self.tokens) and self.tokens[-1] not in ("+", "-", "*", "/", "(")

    def _number(self, token: str, glued: bool) -> list[Side | None]:
        ended: list[Side | None] = []
        if self.after_word and glued and not self.tokens:
            self.unclear = True  # x2
        if self._complete and self.tokens[-1] == ")" and not self.unit:
            self.tokens.append("*")  # (1/2) 1956
        elif self._complete:
            ended = self.stop()
        if re.match(r"0[0-9]", token) or ":" in token:
            self.unclear = True  # 350 000, 0900 hours, 6:00
        self.tokens.append(token.replace(",", ""))
        return ended

    def _word(self, word: str, following: tuple[str, str], glued: bool) -> list[Side | None]:
        operand_follows = following[0] == "number" or following[1] == "("
        fraction = self._complete and (self.tokens[-1].endswith("%") or "/" in self.tokens[-2:-1])
        times = (word in ("x", "X") and self._complete) or (
            word == "of" and fraction and not self.unit
        )
        if times and operand_follows:
            self.tokens.append("*")
            self.unit = []
        elif not self._complete:
            if not self.tokens and not self.chain and not self.unclear:
                self.after_word = True
            else:
                self.unclear = True  # 3 + x, = x
        elif len(word) == 1 and (glued or following[1] in ("+", "-", "*", "/", "=")):
            self.unclear = True  # 5p, 5 p + 3
        elif f" {word.lower()} " in _PROSE or len(self.unit) >= MAX_UNIT_WORDS:
            return self.stop(after_word=True)
        else:
            self.unit.append(word)
        return []

    def _mark(
        self, mark: str, following: tuple[str, str], glued: tuple[bool, bool]
    ) -> list[Side | None]:
        if mark == "=":
            if self.tokens or self.unclear or self.chain:
                self._close_side()
            self.after_word = False
        elif mark == "%" and self.tokens and self.tokens[-1][-1].isdigit():
            self.tokens[-1] += "%"
        elif mark == "(":
            return self._open(glued[0])
        elif mark == ")":
            if self.tokens.count("(") <= self.tokens.count(")"):
                return self.stop()
            self.tokens.append(")")
        elif (
            mark in "/-"
            and glued[0]
            and self._complete
            and following[0] == "word"
            and len(following[1]) > 1
        ):
            pass  # 3 hours/dress, $80/day, 5-year
        elif self._complete:
            self.tokens.append(mark)
            self.unit = []
        elif mark == "-" and (glued[1] or not self.after_word) and self.tokens[-1:] != ["-"]:
            self.tokens.append("-")
        else:
            self.unclear = True
        return []

    def _open(self, glued: bool) -> list[Side | None]:
        ended: list[Side | None] = []
        if (
            self._complete
            and (glued or self.tokens[-1] == ")" or self.tokens[1:2] == ["/"])
            and not self.unit
        ):
            self.tokens.append("*")  # 12(4), (3)(4), 1/2 (68)
        elif self._complete:
            ended = self.stop()  # 5 apples (10/2=5)
        elif self.after_word and glued and not self.tokens:
            self.unclear = True  # f(3)
        self.tokens.append("(")
        return ended

    def _close_side(self) -> None:
        while (
            self.tokens
            and self.tokens[0] == "("
            and self.tokens.count("(") > self.tokens.count(")")
        ):
            del self.tokens[0]  # a bracket of the prose: (3+4=7)
        try:
            side = (
                None
                if self.unclear
                else Side(tuple(self.tokens), _values(self.tokens), " ".join(self.unit))
            )
        except UnreadableError:
            side = None
        self.chain.append(side)
        self.tokens, self.unit, self.unclear = [], [], False


def _values(tokens: list[str]) -> tuple[Fraction, ...]:
    """What a side comes to under each reading of its percent signs; () when it divides by zero.

    Raises:
        UnreadableError: not an expression, or too long.
    """
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError("too long")
    readings = (
        (Fraction(1, 100), Fraction(1))
        if any(token.endswith("%") for token in tokens)
        else (Fraction(1),)
    )
    try:
        return tuple(_Parser(tokens, percent).whole() for percent in readings)
    except ZeroDivisionError:
        return ()


@dataclass
class _Parser:
    """Recursive descent: whole = sum; sum = product (+|- product)*.

    Product = atom (*|/ atom)*; atom = [-] number | ( sum ).
    """

    tokens: list[str]
    percent: Fraction
    position: int = 0
    depth: int = 0

    def whole(self) -> Fraction:
        value = self._sum()
        if self.position != len(self.tokens):
            raise UnreadableError("something follows the expression")
        return value

    def _next(self, *wanted: str) -> str | None:
        if self.position < len(self.tokens) and (
            not wanted or self.tokens[self.position] in wanted
        ):
            self.position += 1
            return self.tokens[self.position - 1]
        return None

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._next("+", "-"):
            term = self._product()
            value = value + term if sign == "+" else value - term
        return value

    def _product(self) -> Fraction:
        value = self._atom()
        while sign := self._next("*", "/"):
            factor = self._atom()
            value = value * factor if sign == "*" else value / factor
        return value

    def _atom(self) -> Fraction:
        token = self._next()
        if token == "-":
            return -self._atom()
        if token == "(" and self.depth < MAX_DEPTH:
            self.depth += 1
            value = self._sum()
            self.depth -= 1
            if self._next(")") is None:
                raise UnreadableError("a bracket stays open")
            return value
        number = to_fraction(token.rstrip("%")) if token and token[-1] in "0123456789%" else None
        if token is None or number is None:
            raise UnreadableError("no number")
        return number * self.percent if token.endswith("%") else number


def _bracket_mixed(match: re.Match[str]) -> str:
    """`2 1/2` -> `(2+1/2)`, unless the first number may be a result and the fraction the start of the next calculation."""
    ambiguous = match["equals"] and match["more"]
    if ambiguous or not 0 < int(match["top"]) < int(match["bottom"]):
        return match[0]
    return f"{match['equals'] or ''}({match['whole']}+{match['top']}/{match['bottom']}){match['more'] or ''}"


def _spell_token(token: str) -> str:
    if token[0] not in "0123456789.":
        return token
    value = to_fraction(token.rstrip("%"))
    return token if value is None else spell(value) + "%" * token.endswith("%")
