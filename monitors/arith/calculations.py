"""What a text calculates: every equation that it writes, and every calculation that it makes.

The two differ. `3*4+2*5=12+10=22` writes two equations, and a step checker checks both; it makes
one calculation, 3*4+2*5=22. A calculator note beside the prose, `48/2 = <<48/2=24>>24`, is a
second writing of the same calculation. In one pass, nothing is evaluated by Python.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise

from ouroloop.monitors.arith.equations import chains
from ouroloop.monitors.arith.expressions import (
    Number,
    Tree,
    spelling,
    value,
    without_suffixes,
)
from ouroloop.monitors.arith.numbers import plain, spell
from ouroloop.monitors.arith.sides import Chain, Side
from ouroloop.monitors.arith.tokens import Kind, tokens

MAX_CHARS = 20_000
"""Only so many first characters of a text are read."""
MAX_EQUATIONS = 500
MAX_PROBLEM = 120
"""A line that only writes the problem in signs is not longer than this."""

# A cheap test first: most lines of prose hold no equation.
_MAY_EQUATE = re.compile(r"=|\b(?:is|are|equals|makes|gives)\b")
_SIGNS_ONLY = re.compile(r"[0-9.,$ ?()+\-*/=]+")


@dataclass(frozen=True)
class Equation:
    """Two neighbouring sides of a chain of which at least one calculates something.

    Two bare numbers of one unit behind a calculation are one too: in 2+2=4=5 the second is wrong.
    """

    left: Side
    right: Side

    def __str__(self) -> str:
        return f"{self.left}={self.right}"


@dataclass(frozen=True)
class Calculation:
    """An expression with an operator between numbers, and the result that the text claims.

    Attributes:
        left: as written.
        amount: the claimed result; like `tree` it takes percent signs and scale words for units,
            40% is 40.
        result: its spelling.
    """

    left: Tree
    amount: Fraction
    result: str

    @cached_property
    def tree(self) -> Tree:
        """The expression without percent signs and scale words."""
        return without_suffixes(self.left)

    def __str__(self) -> str:
        return f"{spelling(self.left)}={self.result}"


def equations(text: str) -> list[Equation]:
    """Every equation of a text in order, at most `MAX_EQUATIONS`.

    A chain's notes come first; its prose adds what they do not hold already.
    """
    found: list[Equation] = []
    for chain in read(text):
        noted = [
            equation
            for note in chain.notes
            for inner in _of_note(note)
            for equation in _equations(inner)
        ]
        # The prose around a note says the same again, once for each time that the note says it.
        known = Counter(map(str, noted))
        for equation in _equations(chain):
            if known[str(equation)]:
                known[str(equation)] -= 1
            else:
                noted.append(equation)
        found += noted
        if len(found) >= MAX_EQUATIONS:
            break
    return found[:MAX_EQUATIONS]


def calculations(text: str) -> list[Calculation]:
    """Every calculation of a text in order, each once, at most `MAX_EQUATIONS`.

    "2+3=5+4=9" is a running total, 2+3=5 and 5+4=9; "3*4+2*5=12+10=22" is one calculation. Where
    the prose around a note cannot be read, the note counts.
    """
    found: list[Calculation] = []
    for chain in read(text):
        own = list(_calculations(chain.sides))
        if not own:
            own = [
                step
                for note in chain.notes
                for inner in _of_note(note)
                for step in _calculations(inner.sides)
            ]
        found += own
        if len(found) >= MAX_EQUATIONS:
            break
    return found[:MAX_EQUATIONS]


def calculation_key(text: str) -> str:
    """What makes two texts the same calculations: all of them, sorted; "" when there is none.

    Traces that only order, word or annotate them differently are the same.

    Source: RFT (Yuan et al. 2308.01825) keeps one reasoning path per distinct list of equations.
    They compare lists in order; the order is dropped here, so that swapping two independent steps
    does not make a new path.
    """
    return ";".join(sorted(map(str, calculations(text))))


def stated_problem(text: str) -> tuple[Fraction, ...]:
    """The numbers of the first line that writes the problem in signs: 47+35, or 47+?=82.

    Signs and numbers alone, and no result; () when there is no such line.
    """
    for line in plain(text[:MAX_CHARS]).splitlines():
        if len(line) > MAX_PROBLEM or not _SIGNS_ONLY.fullmatch(line) or calculations(line):
            continue
        amounts = [token.value for token in tokens(line) if token.kind is Kind.NUMBER]
        return tuple(amount for amount in amounts if amount is not None)
    return ()


@lru_cache(maxsize=64)
def read(text: str) -> tuple[Chain, ...]:
    """The chains of a text, line by line. Judging asks for the same text several times."""
    # Line by line: no equation goes on over a line break.
    found: list[Chain] = []
    for line in plain(text[:MAX_CHARS]).splitlines():
        if _MAY_EQUATE.search(line):
            found += chains(line)
        if len(found) >= MAX_EQUATIONS:
            break
    return tuple(found)


def _of_note(note: str) -> Iterable[Chain]:
    return chains(note)


def _equations(chain: Chain) -> Iterator[Equation]:
    """The pairs of neighbouring sides that claim something which can be checked."""
    calculated = False
    for left, right in pairwise(chain.sides):
        if left is None or right is None:
            calculated = False
        elif left.is_number and right.is_number:
            if calculated and left.unit == right.unit:
                yield Equation(left, right)
        elif not left.converts(right):
            calculated = True
            yield Equation(left, _opening(right) if _carries(left, right) else right)


def _carries(left: Side, right: Side) -> bool:
    """Whether `left = right` is a running total that `right` carries on with what `left` gives."""
    return runs_on(left, right) and right.opening in left.values and not _equal(left, right)


def _opening(side: Side) -> Side:
    """The number that a side starts with, as a side of its own."""
    return Side(Number(side.opening or Fraction(0)))


def _equal(left: Side, right: Side) -> bool:
    return not set(left.values).isdisjoint(right.values)


def _calculations(sides: tuple[Side | None, ...]) -> Iterator[Calculation]:
    """Each side that calculates something, with the first result that is given for it."""
    waiting: Side | None = None
    for index, side in enumerate(sides):
        is_last = index == len(sides) - 1
        if waiting is None or side is None or waiting.converts(side):
            waiting = side
        elif side.is_number or (is_last and side.opening not in waiting.values):
            amount = value(side.tree, suffixes=False)
            if amount is not None:
                yield Calculation(waiting.tree, amount, str(side))
            waiting = None
        elif side.opening is not None and runs_on(waiting, side):
            yield Calculation(waiting.tree, side.opening, spell(side.opening))
            waiting = side
        if waiting is not None and waiting.is_number:
            waiting = None


def runs_on(left: Side, right: Side) -> bool:
    """Whether `left = right` is a running total, 2+3=5+4: `left` gives what `right` starts with.

    Otherwise `right` is `left` written anew, 3*4+2*5=12+10.
    """
    if left.is_number or right.is_number or right.opening is None:
        return False
    return right.opening in left.values or not _equal(left, right)
