"""The numbers that a question gives, in digits and in words.

"ten dogs", "3/5", "40 %", "half", "twice".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ouroloop.monitors.arith.expressions import MAX_DIGITS, plain_number

MAX_CHARS = 4_000
MAX_GIVENS = 40

_SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_TEENS = [
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: Fraction(i) for i, word in enumerate(_SMALL + _TEENS)} | {
    word: Fraction(10 * i) for i, word in enumerate(_TENS, 2)
}
_WORDS |= {
    "dozen": Fraction(12),
    "twice": Fraction(2),
    "double": Fraction(2),
    "thrice": Fraction(3),
    "triple": Fraction(3),
}
_WORDS |= {"hundred": Fraction(100), "thousand": Fraction(1000)}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "tenth": 10,
}
_TOKEN = re.compile(
    r"(?P<top>\d{1,9})/(?P<bottom>\d{1,9})(?![\d.])|(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?P<percent>\s?(?:%|percent))?"
    r"|(?P<word>[A-Za-z]+)",
    re.ASCII,
)


@dataclass(frozen=True)
class Givens:
    """The distinct numbers of a question in its order, and which of them are percentages."""

    values: tuple[Fraction, ...]
    percents: frozenset[Fraction]

    def index(self, amount: Fraction) -> int | None:
        """Which given this is, 1 for the first.

        A percentage may be written as 40, as 0.4 or as 40/100.
        """
        if amount in self.values:
            return self.values.index(amount) + 1
        if amount * 100 in self.percents:
            return self.values.index(amount * 100) + 1
        return None


def givens(question: str) -> Givens:
    """All numbers of a question, at most `MAX_GIVENS`."""
    values: list[Fraction] = []
    percents = set()
    for amount, percent in _amounts(question[:MAX_CHARS]):
        if amount not in values:
            values.append(amount)
        if percent:
            percents.add(amount)
        if len(values) >= MAX_GIVENS:
            break
    return Givens(tuple(values), frozenset(percents))


def _amounts(text: str) -> Iterator[tuple[Fraction, bool]]:
    """Each number with whether it is a percentage.

    "two-thirds" gives 2/3, "forty-two" 42, "one third" and "a third" 1/3.
    """
    before: Fraction | None = None
    tens: Fraction | None = None
    for match in _TOKEN.finditer(text):
        word = (match["word"] or "").lower()
        singular = word if word in _PARTS else word.removesuffix("s")
        amount: Fraction | None = None
        if match["number"]:
            plain = plain_number(match["number"]) if len(match["number"]) <= MAX_DIGITS else None
            amount = Fraction(plain) if plain else None
        elif match["top"]:
            amount = (
                Fraction(int(match["top"]), int(match["bottom"])) if int(match["bottom"]) else None
            )
        elif singular in _PARTS:
            if before is not None and before >= 20 and before.denominator == 1:
                amount = None  # "the twenty-fifth"
            else:
                amount = (
                    before if before is not None and 0 < before < 20 else Fraction(1)
                ) / _PARTS[singular]
        elif word in _WORDS:
            amount = _WORDS[word]
            if tens is not None and word in _SMALL[1:10] and text[match.start() - 1] in "- ":
                amount += tens
        if amount is not None:
            yield amount, bool(match["percent"])
        before = amount if word or match["number"] else None
        tens = amount if word in _TENS else None
