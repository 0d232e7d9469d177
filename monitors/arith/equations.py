"""Equations in prose: a line -> chains `side = side = ...`, each side an expression or unreadable.

Only + - * / ( ), decimals, percent signs and scale words. Units and prose are skipped; a side with
an unknown, a power or anything unclear is None: left out rather than guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from ouroloop.monitors.arith.expressions import (
    FACTORS,
    MAX_ITEMS,
    OPERATORS,
    Number,
    UnreadableError,
    parse,
)
from ouroloop.monitors.arith.numbers import PARTS
from ouroloop.monitors.arith.sides import Chain, Side
from ouroloop.monitors.arith.tokens import END, Kind, Token, tokens

MAX_UNIT_WORDS = 3
"""More words than this after a number are prose."""
MAX_SIDES = 500
"""Sides of the equations of a line that are read, at most."""
MAX_KEPT = 200
"""Characters of a line whose chains are kept: most steps are short, and many texts share them."""

_BULLET = re.compile(r"^\s*(?:[-*•>]\s+|\(?[0-9]{1,2}[.)]\s+(?!\s*[-+*/=]\s))+")
"""What may begin a line: a bullet or a number, unless an operator follows: `(2) + 3 = 5`."""
# Markdown's ** is bold text here, and a power between numbers.
_BOLD = re.compile(r"(?<![\w)])\*\*([^*\n]+)\*\*")

_PROSE_WORDS = """
a all also an and are as at because but by equals for from gets had has have he her his
how i if is it left makes means more needs on or she since so that the then there they
this to was we were when which while will with you
"""
_PROSE = frozenset(_PROSE_WORDS.split())
"""Words that are never a unit: here the prose goes on."""
_SPOKEN = {"plus": "+", "minus": "-", "less": "-", "times": "*", "over": "/", "x": "*", "X": "*"}
_SPOKEN_BY = {"divided": "/", "multiplied": "*"}
_SPOKEN_EQUALS = frozenset(("is", "equals", "makes", "gives", "are"))
_COMPARES = frozenset(("more", "less", "fewer", "times", "of", "off", "than"))
"""After "3 + 4 is 7" these say that 7 is no result: "is 7 more than", "is 7 times"."""
_WITHIN = frozenset(("of", "in", "per"))
"""Between two quantities these relate them otherwise than an equation can: 8 packs of 5 bags."""


def chains(line: str) -> tuple[Chain, ...]:
    """Every chain of a line with plain signs (`numbers.plain`), in order."""
    return _kept(line) if len(line) <= MAX_KEPT else _kept.__wrapped__(line)


@lru_cache(maxsize=2048)
def _kept(line: str) -> tuple[Chain, ...]:
    line = _BULLET.sub("", line)
    if "**" in line:
        line = _BOLD.sub(r"\1", line)
    return tuple(_Reader(tokens(line)).read())


@dataclass
class _Reader:
    """The state of reading a line: the chain so far and the side being read.

    Attributes:
        line: its tokens.
        at: the next one.
        found: the chains that have ended.
        chain: the sides of the current chain.
        notes: the calculator notes in it.
        items: of the current side: numbers, operators and brackets.
        unit: the words after its last number.
        places: decimal places of its last number as written.
        compact: no blank stands in it.
        divided_at: where its last division was.
        num_sides: sides of the whole line.
        unclear: it holds something that cannot be read.
        after_word: a word stands before it.
    """

    line: list[Token]
    at: int = 0
    found: list[Chain] = field(default_factory=list)
    chain: list[Side | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: list[Number | str] = field(default_factory=list)
    unit: list[str] = field(default_factory=list)
    places: int = 0
    compact: bool = True
    divided_at: int = -1
    num_sides: int = 0
    unclear: bool = False
    after_word: bool = False

    def read(self) -> list[Chain]:
        """Read the whole line."""
        while self.at < len(self.line) and self.num_sides < MAX_SIDES:
            token = self.line[self.at]
            self.at += 1
            if token.kind is Kind.WORD:
                self._word(token)
            elif token.kind is Kind.SIGN:
                self._sign(token)
            elif token.kind is Kind.NOTE:
                self._note(token)
            elif token.kind is Kind.OTHER:
                self._other(token)
            else:
                self._number(token)
        self._stop()
        return self.found

    def _next(self) -> Token:
        """The token after the one being read; a note is invisible."""
        for token in self.line[self.at : self.at + 2]:
            if token.kind is not Kind.NOTE:
                return token
        return END

    # ---- what a token does -------------------------------------------------------------------

    def _note(self, token: Token) -> None:
        if self.chain:
            self.notes.append(token.text)  # 48/2 = <<48/2=24>>24
        else:
            self.found.append(Chain((), (token.text,)))  # so she has 24<<48/2=24>>

    def _number(self, token: Token) -> None:
        if self.after_word and token.glued and not self.items:
            self.unclear = True  # x2
        if self._complete and self.items[-1] == ")" and not self.unit:
            self.items.append("*")  # (1/2) 1956
        elif self._complete:
            within = not self.chain and self.unit[-1:] != [] and self.unit[-1] in _WITHIN
            self._stop()
            self.unclear = within  # 8 packs of 5 bags * 4
        # A place is kept for it, so that the rest of the side is still skipped as one side.
        if token.value is None or token.kind is Kind.CLOCK:
            self.unclear = True  # 350 000, 0900 hours, 6:00
            self.items.append(Number(Fraction(0)))
        else:
            self.items.append(Number(token.value))
        self._limit()
        self.places = token.places
        self.compact = self.compact and (token.glued or len(self.items) == 1)
        is_fraction = token.glued and self.items[-2:-1] == ["/"]
        if is_fraction and 0 < self.divided_at == len(self.items) - 4:
            self.items[-3:] = ["(", *self.items[-3:], ")"]  # 1 1/2 / 1/2

    def _word(self, token: Token) -> None:
        word, following = token.text, self._next()
        if self._suffix(word) or self._spoken_operator(word, following):
            return
        if word in _SPOKEN_EQUALS and self._calculates and self._states_a_result():
            self._close_side()  # 40 plus 30 is 70
            return
        if not self._complete:
            if not self.items and not self.chain and not self.unclear:
                self.after_word = True
            else:
                self.unclear = True  # 3 + x, = x
        elif len(word) == 1 and (token.glued or following.text in (*OPERATORS, "=")):
            self.unclear = True  # 5p, 5 p + 3
        elif self.unit and word in ("a", "an") and following.kind is Kind.WORD:
            self.unit.append(word)  # 10 minutes a puzzle * 3 puzzles
        elif word.lower() in _PROSE or len(self.unit) >= MAX_UNIT_WORDS:
            self._stop(after_word=True)
        else:
            self.unit.append(word)

    def _sign(self, token: Token) -> None:
        sign, following = token.text, self._next()
        if sign == "=":
            if self.items or self.unclear or self.chain:
                self._close_side()
            self.after_word = False
        elif sign == "%":
            self._suffix("%")
        elif sign == "(":
            self._open(token.glued)
        elif sign == ")":
            if self.items.count("(") <= self.items.count(")"):
                self._stop()
                return
            self.items.append(")")
        elif self._complete:
            self._operator(token, following)
        elif sign == "-" and self._may_negate(following):
            self.items.append("-")
        elif sign == "+" and following.glued and not self.items and not self.after_word:
            pass  # +4 + 3 = 7
        else:
            self.unclear = True

    def _other(self, token: Token) -> None:
        if token.text == "^":
            self.unclear = True
        else:
            self._stop()

    # ---- parts of these ----------------------------------------------------------------------

    @property
    def _complete(self) -> bool:
        """Whether the side so far ends in an operand."""
        return bool(self.items) and (self.items[-1] == ")" or isinstance(self.items[-1], Number))

    def _may_negate(self, following: Token) -> bool:
        """Whether a minus sign without an operand before it is a number's own."""
        if self.items[-1:] == ["-"]:
            return following.glued and self.items[-2:-1] != ["-"]  # 3 - -2
        return following.glued or not self.after_word

    def _suffix(self, word: str) -> bool:
        """Take a percent sign or a scale word behind a number."""
        suffix = "%" if word == "percent" else word
        last = self.items[-1] if self.items else None
        if suffix not in FACTORS or not isinstance(last, Number) or last.suffix or self.unit:
            return False
        self.items[-1] = Number(last.value, suffix)
        return True

    def _spoken_operator(self, word: str, following: Token) -> bool:
        """Take `plus`, `divided by`, `2 x 3` or the `of` of a share between two operands."""
        if word == "by" and self.items[-1:] in (["/"], ["*"]):
            return True  # divided by
        if not self._complete:
            return False
        if word in _SPOKEN_BY and following.text == "by":
            operator = _SPOKEN_BY[word]
        elif following.kind is not Kind.NUMBER and following.text != "(":
            return False
        elif word in _SPOKEN:
            operator = _SPOKEN[word]
        elif word == "of" and self._is_share and not self.unit:
            operator = "*"
        else:
            return False
        self._append(operator)
        return True

    @property
    def _is_share(self) -> bool:
        last = self.items[-1]
        return self.items[-2:-1] == ["/"] or (isinstance(last, Number) and last.suffix == "%")

    @property
    def _calculates(self) -> bool:
        """Whether the side so far is a calculation."""
        has_operator = any(item in OPERATORS for item in self.items[1:])
        return self._complete and has_operator and not self.unclear

    def _states_a_result(self) -> bool:
        """Whether a bare number comes next that is not compared with, or calculated on."""
        start = self.at + (self._next().text == "-")
        number, *rest = [*self.line[start : start + 3 + MAX_UNIT_WORDS], END]
        if number.kind is not Kind.NUMBER:
            return False
        for token in rest:
            word = token.text.lower()
            if token.kind in (Kind.OTHER, Kind.END) or word in _PROSE - _COMPARES:
                return True
            if token.kind is not Kind.WORD and word != "%":
                return False
            if word in _COMPARES:
                return False
        return True

    def _operator(self, token: Token, following: Token) -> None:
        """An operator behind an operand."""
        if token.text in "/-" and token.glued:
            if following.kind is Kind.WORD and self.unit and len(following.text) == 1:
                self.at += 1  # 14 km/h: behind a unit a single letter is one, too, no unknown
                return
            if following.kind is Kind.WORD and len(following.text) > 1:
                self.unclear |= following.text.removesuffix("s") in PARTS  # 48 / 3-quarters
                return  # 3 hours/dress, $80/day, 5-year
            if self.unit and following.glued and "/" in self.items:
                self.unclear = True  # 24 degrees / 3 degrees/5%
        self.compact = self.compact and token.glued
        if token.text == "/" and not token.glued:
            self.divided_at = len(self.items)
        self._append(token.text)

    def _append(self, operator: str) -> None:
        self.items.append(operator)
        self.unit = []
        self._limit()

    def _limit(self) -> None:
        if len(self.items) > MAX_ITEMS:
            self.unclear = True
            del self.items[:-1]  # so that counting brackets stays cheap

    def _open(self, glued: bool) -> None:
        if self._complete:
            times = glued or self.items[-1] == ")" or self.items[1:2] == ["/"]
            if times and not self.unit:
                self.items.append("*")  # 12(4), (3)(4), 1/2 (68)
            else:
                self._stop()  # 5 apples (10/2=5)
        elif self.after_word and glued and not self.items:
            self.unclear = True  # f(3)
        self.items.append("(")
        self._limit()

    # ---- ends --------------------------------------------------------------------------------

    def _close_side(self) -> None:
        items = self.items
        while items and items[0] == "(" and items.count("(") > items.count(")"):
            items = items[1:]  # a bracket of the prose: (3+4=7)
        self.chain.append(None if self.unclear else self._side(items))
        self.num_sides += 1
        self._begin_side()

    def _side(self, items: list[Number | str]) -> Side | None:
        try:
            tree = parse(items)
        except UnreadableError:
            return None
        first = items[0]
        return Side(
            tree,
            places=self.places if isinstance(tree, Number) else 0,
            unit=" ".join(self.unit),
            compact=self.compact and len(items) == 3 and items[1] == "/",
            opening=first.value if isinstance(first, Number) else None,
        )

    def _stop(self, after_word: bool = False) -> None:
        """End the chain here: prose, punctuation or the end of the line."""
        if self.chain:
            self._close_side()
        sides = tuple(self.chain) if len(self.chain) > 1 else ()
        if sides or self.notes:
            self.found.append(Chain(sides, tuple(self.notes)))
        self.chain, self.notes = [], []
        self._begin_side()
        self.after_word = after_word

    def _begin_side(self) -> None:
        self.items, self.unit = [], []
        self.unclear, self.compact, self.divided_at = False, True, -1
