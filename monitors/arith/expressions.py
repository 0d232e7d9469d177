"""Arithmetic expressions as trees: tokens -> tree -> exact value.

Untrusted input: every size is capped, nothing is evaluated by Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

MAX_DIGITS = 60
MAX_TOKENS = 64
MAX_DEPTH = 16

OPERATORS = "+-*/"
NUMBER = re.compile(r"-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)", re.ASCII)


@dataclass(frozen=True)
class Number:
    """A number as written."""

    value: Fraction


@dataclass(frozen=True)
class Sum:
    """Terms with their signs, +1 or -1."""

    terms: tuple[tuple[int, Tree], ...]


@dataclass(frozen=True)
class Product:
    """Factors with their exponents, +1 or -1."""

    factors: tuple[tuple[int, Tree], ...]


Tree = Number | Sum | Product


class UnreadableError(ValueError):
    """Tokens that are no expression, or too many of them."""


def plain_number(text: str) -> str | None:
    """ "1,200.50" -> "1200.5"; None when the text is no number or longer than `MAX_DIGITS`."""
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in ("-0", "") else plain


def parse(tokens: Sequence[str]) -> Tree:
    """The tree of "2*(3+4)" given as tokens; numbers in plain form, possibly signed.

    Raises:
        UnreadableError: not an expression, or more than `MAX_TOKENS` or `MAX_DEPTH`.
    """
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError("too long")
    reader = _Reader(tokens)
    tree = reader.sum()
    if reader.position != len(tokens):
        raise UnreadableError("something follows the expression")
    return tree


def value(tree: Tree) -> Fraction | None:
    """What a tree comes to; None when it divides by zero."""
    if isinstance(tree, Number):
        return tree.value
    parts = tree.terms if isinstance(tree, Sum) else tree.factors
    total = Fraction(0) if isinstance(tree, Sum) else Fraction(1)
    for sign, part in parts:
        amount = value(part)
        if amount is None or (isinstance(tree, Product) and sign < 0 and not amount):
            return None
        if isinstance(tree, Sum):
            total += sign * amount
        else:
            total = total * amount if sign > 0 else total / amount
    return total


@dataclass
class _Reader:
    """Recursive descent: sum = product (+|- product)*; product = atom (*|/ atom)*.

    Atom = [-] number | ( sum ).
    """

    tokens: Sequence[str]
    position: int = 0
    depth: int = 0

    def sum(self) -> Tree:
        terms = [(1, self._product())]
        while sign := self._next("+-"):
            terms.append((1 if sign == "+" else -1, self._product()))
        return terms[0][1] if len(terms) == 1 else Sum(tuple(terms))

    def _next(self, wanted: str) -> str:
        if self.position < len(self.tokens) and self.tokens[self.position] in tuple(wanted):
            self.position += 1
            return self.tokens[self.position - 1]
        return ""

    def _product(self) -> Tree:
        factors = [(1, self._atom())]
        while sign := self._next("*/"):
            factors.append((1 if sign == "*" else -1, self._atom()))
        return factors[0][1] if len(factors) == 1 else Product(tuple(factors))

    def _atom(self) -> Tree:
        negative = False
        while self._next("-"):
            negative = not negative
        if self._next("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise UnreadableError("too deep")
            tree = self.sum()
            self.depth -= 1
            if not self._next(")"):
                raise UnreadableError("a bracket stays open")
        else:
            tree = self._number()
        return Sum(((-1, tree),)) if negative else tree

    def _number(self) -> Number:
        token = self.tokens[self.position] if self.position < len(self.tokens) else ""
        if not token or len(token) > MAX_DIGITS + 1 or not NUMBER.fullmatch(token):
            raise UnreadableError("no number")
        self.position += 1
        return Number(Fraction(token))
