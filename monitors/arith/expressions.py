"""Arithmetic expressions as trees: operands and signs -> tree -> exact value, one spelling.

Untrusted input: every size is capped, nothing is evaluated by Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ouroloop.monitors.arith.numbers import SCALES, spell

MAX_ITEMS = 64
"""Numbers, operators and brackets of one expression at most."""
MAX_DEPTH = 16
"""Brackets in brackets at most."""

OPERATORS = ("+", "-", "*", "/")
_SIGNS = {"+": 1, "-": -1, "*": 1, "/": -1}
_OF_TERMS = {1: "+", -1: "-"}
_OF_FACTORS = {1: "*", -1: "/"}
FACTORS = {"": Fraction(1), "%": Fraction(1, 100)} | {
    word: Fraction(factor) for word, factor in SCALES.items()
}
"""What a number's suffix multiplies it by."""


@dataclass(frozen=True)
class Number:
    """A number as written, and its percent sign or scale word: one of `FACTORS`."""

    value: Fraction
    suffix: str = ""


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
    """Items that are no expression, or too many of them."""


def parse(items: Sequence[Number | str]) -> Tree:
    """The tree of "2*(3+4)" given as numbers, operators and brackets.

    Brackets that change nothing leave no trace: 2+(3+4) is 2+3+4.

    Raises:
        UnreadableError: not an expression, or more than `MAX_ITEMS` or `MAX_DEPTH`.
    """
    if len(items) > MAX_ITEMS:
        raise UnreadableError("too long")
    reader = _Reader(items)
    tree = reader.sum()
    if reader.position != len(items):
        raise UnreadableError("something follows the expression")
    return tree


def value(tree: Tree, suffixes: bool = True) -> Fraction | None:
    """The exact value of a tree; None when it divides by zero.

    suffixes: count percent signs and scale words; otherwise they are units, 40% is 40.
    """
    if isinstance(tree, Number):
        # Most numbers have no suffix, and a product of Fractions costs a greatest divisor.
        if suffixes and tree.suffix:
            return tree.value * FACTORS[tree.suffix]
        return tree.value
    if isinstance(tree, Sum):
        total = Fraction(0)
        for sign, term in tree.terms:
            amount = value(term, suffixes)
            if amount is None:
                return None
            total += sign * amount
        return total
    total = Fraction(1)
    for sign, factor in tree.factors:
        amount = value(factor, suffixes)
        if amount is None or (sign < 0 and not amount):
            return None
        total *= amount**sign
    return total


def spelling(tree: Tree) -> str:
    """The one way of writing a tree: no blanks, no brackets that change nothing."""
    if isinstance(tree, Number):
        return spell(tree.value) + tree.suffix
    return "".join(_spelled(tree))


def operators(tree: Tree) -> str:
    """The operators between the numbers of a tree, in order."""
    if isinstance(tree, Number):
        return ""
    found = "".join(operator + operators(part) for operator, part in _parts(tree))
    return found[1:]  # before the first part stands its sign, or nothing


def without_suffixes(tree: Tree) -> Tree:
    """The tree with percent signs and scale words read as units: 40% is 40."""
    if isinstance(tree, Number):
        return Number(tree.value)
    if isinstance(tree, Sum):
        return Sum(tuple((sign, without_suffixes(term)) for sign, term in tree.terms))
    return Product(tuple((sign, without_suffixes(factor)) for sign, factor in tree.factors))


def _parts(tree: Sum | Product) -> Iterator[tuple[str, Tree]]:
    """The parts of a tree, each with the operator before it."""
    if isinstance(tree, Sum):
        yield from ((_OF_TERMS[sign], term) for sign, term in tree.terms)
    else:
        yield from ((_OF_FACTORS[exponent], factor) for exponent, factor in tree.factors)


def _spelled(tree: Sum | Product) -> Iterator[str]:
    for index, (operator, part) in enumerate(_parts(tree)):
        if index or operator == "-":
            yield operator
        written = spelling(part)
        # 7/3 has no decimal spelling: 6/(7/3), but 1+7/3.
        # Spelt with a slash, it would else be read as two factors.
        is_fraction = isinstance(part, Number) and "/" in written
        in_brackets = isinstance(part, Sum) or (isinstance(tree, Product) and is_fraction)
        if in_brackets or (isinstance(tree, Product) and isinstance(part, Product)):
            yield f"({written})"
        else:
            yield written


@dataclass
class _Reader:
    """Recursive descent.

    sum = product (+|- product)*; product = atom (*|/ atom)*; atom = [-] number | ( sum ).
    """

    items: Sequence[Number | str]
    position: int = 0
    depth: int = 0

    def sum(self) -> Tree:
        """Read a sum from here on."""
        terms: list[tuple[int, Tree]] = []
        sign = 1
        while True:
            term = self._product()
            if isinstance(term, Sum) and sign > 0:
                terms += term.terms  # 2+(3+4)
            else:
                terms.append((sign, term))
            operator = self._next("+", "-")
            if operator is None:
                break
            sign = _SIGNS[operator]
        if len(terms) == 1 and terms[0][0] > 0:
            return terms[0][1]
        return Sum(tuple(terms))

    def _product(self) -> Tree:
        factors: list[tuple[int, Tree]] = []
        sign = 1
        while True:
            factor = self._atom()
            if isinstance(factor, Product) and sign > 0:
                factors += factor.factors  # 2*(3/4)
            else:
                factors.append((sign, factor))
            operator = self._next("*", "/")
            if operator is None:
                break
            sign = _SIGNS[operator]
        if len(factors) == 1:
            return factors[0][1]
        return Product(tuple(factors))

    def _atom(self) -> Tree:
        negative = False
        while self._next("-"):
            negative = not negative
        tree = self._operand()
        if not negative:
            return tree
        if isinstance(tree, Number):
            return Number(-tree.value, tree.suffix)
        return Sum(((-1, tree),))

    def _operand(self) -> Tree:
        if self._next("("):
            # Nothing else nests, so that this bounds the recursion here and in `value`.
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise UnreadableError("too deep")
            tree = self.sum()
            self.depth -= 1
            if not self._next(")"):
                raise UnreadableError("a bracket stays open")
            return tree
        item = self._here()
        if not isinstance(item, Number):
            raise UnreadableError("no number")
        self.position += 1
        return item

    def _here(self) -> Number | str | None:
        if self.position < len(self.items):
            return self.items[self.position]
        return None

    def _next(self, *wanted: str) -> str | None:
        item = self._here()
        if isinstance(item, str) and item in wanted:
            self.position += 1
            return item
        return None
