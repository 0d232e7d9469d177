"""The numbers that a question gives, in digits and in words.

Such as "ten dogs", "3/5", "40 %", "half" and "twice".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from ouroloop.monitors.arith.numbers import NUMBER_WORDS, PARTS, TENS, plain
from ouroloop.monitors.arith.tokens import END, Kind, tokens

# Longer than any question that was seen; a hostile one costs no more than this.
MAX_CHARS = 4_000
MAX_GIVENS = 40

_WORDS = {word: Fraction(value) for word, value in NUMBER_WORDS.items()}
_WORDS |= {
    "dozen": Fraction(12),
    "twice": Fraction(2),
    "double": Fraction(2),
    "thrice": Fraction(3),
    "triple": Fraction(3),
}
_WORDS |= {"hundred": Fraction(100), "thousand": Fraction(1000)}


@dataclass(frozen=True)
class Givens:
    """The distinct numbers of a question in its order, and which of them are percentages."""

    values: tuple[Fraction, ...]
    percents: frozenset[Fraction]

    def index(self, amount: Fraction) -> int | None:
        """Which given this is, 1 for the first.

        A percentage may be written as 40, as 0.4 or as 40/100.
        """
        if amount in self._places:
            return self._places[amount]
        if amount * 100 in self.percents:
            return self._places[amount * 100]
        return None

    @cached_property
    def _places(self) -> dict[Fraction, int]:
        return {amount: place for place, amount in enumerate(self.values, 1)}


@lru_cache(maxsize=64)
def givens(question: str) -> Givens:
    """All numbers of a question, at most `MAX_GIVENS`. Its samples ask one after another."""
    values: dict[Fraction, None] = {}
    percents = set()
    for amount, percent in _amounts(question[:MAX_CHARS]):
        values[amount] = None
        if percent:
            percents.add(amount)
        if len(values) >= MAX_GIVENS:
            break
    return Givens(tuple(values), frozenset(percents))


def _amounts(text: str) -> Iterator[tuple[Fraction, bool]]:
    """Each number with whether it is a percentage.

    "two-thirds" gives 2/3, "forty-two" 42, "one third" and "a third" 1/3.
    """
    line = [token for token in tokens(plain(text)) if token.kind is not Kind.NOTE]
    # Two ends, so that the two tokens after any one can be looked at.
    line += [END, END]
    words = _NumberWords()
    at = 0
    while at < len(line) - 2:
        token, sign, below = line[at : at + 3]
        at += 1
        if token.kind is Kind.WORD:
            yield from ((amount, False) for amount in words.read(token.text.lower()))
        elif token.kind is Kind.NUMBER and token.value is not None:
            is_fraction = sign.text == "/" and sign.glued and below.glued and bool(below.value)
            if is_fraction and below.value is not None:
                yield token.value / below.value, False
                words.after(None)
                at += 2
            else:
                yield token.value, sign.text in ("%", "percent")
                words.after(token.value)
        elif token.kind is Kind.CLOCK and token.value is not None:
            yield token.value, False
            words.after(None)


@dataclass
class _NumberWords:
    """Numbers in words, where the word before counts: forty-two, two thirds, the 25th part.

    Attributes:
        before_: the number that the word before was.
        tens_: the same, if it was twenty, thirty, ...
    """

    before_: Fraction | None = None
    tens_: Fraction | None = None

    def after(self, amount: Fraction | None) -> None:
        """This number stands before what comes next; None: none does."""
        self.before_, self.tens_ = amount, None

    def read(self, word: str) -> Iterator[Fraction]:
        """The numbers of a word, perhaps a hyphenated one."""
        for part in word.split("-"):
            amount = self._amount(part)
            if amount is not None:
                yield amount
            self.after(amount)
            if part in TENS:
                self.tens_ = amount

    def _amount(self, word: str) -> Fraction | None:
        singular = word if word in PARTS else word.removesuffix("s")
        if singular in PARTS:
            count = self.before_ or Fraction(1)
            # An ordinal, not a part.
            if count >= 20 and count.denominator == 1:
                return None  # "the twenty-fifth"
            if not 0 < count < 20:
                count = Fraction(1)
            return count / PARTS[singular]
        if word not in _WORDS:
            return None
        if self.tens_ is not None and 0 < NUMBER_WORDS.get(word, 0) < 10:
            return self.tens_ + _WORDS[word]
        return _WORDS[word]
