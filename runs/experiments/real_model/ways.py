"""Ways of writing one calculation down: at once, by place, over a round number, backwards.

Each writer gets an operation with its numbers and returns the equations of one way, [] where the
way does not fit these numbers. Two ways with other equations are two strategies to `dataflow`,
which a swapped order alone is not.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

Equation = tuple[str, Fraction]
"""Left side as it is written, and its value."""

# Longer sums of one number than this are no way that a person would write.
MOST_REPEATED = 5


@dataclass(frozen=True)
class Operation:
    """`left sign right`, where each side is a number or another operation."""

    sign: str
    left: Operation | Fraction
    right: Operation | Fraction


Tree = Operation | Fraction

_SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_APPLY: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def parse(formula: str) -> Tree | None:
    """A formula of numbers, brackets and `+ - * /`; None for anything else."""
    try:
        return _tree(ast.parse(formula.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _tree(node: ast.expr) -> Tree:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        # repr gives back the decimal that was written: 1.02 is 51/50, not its nearest double.
        return Fraction(repr(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return Operation(_SIGNS[type(node.op)], _tree(node.left), _tree(node.right))
    raise ValueError(f"no plain arithmetic: {ast.dump(node)}")


def value(tree: Tree) -> Fraction:
    """What the tree amounts to.

    Raises:
        ZeroDivisionError: a part of it divides by zero.
    """
    if isinstance(tree, Fraction):
        return tree
    return _APPLY[tree.sign](value(tree.left), value(tree.right))


def spell(amount: Fraction) -> str:
    """A number in digits.

    Raises:
        ValueError: it is negative or has no finite decimals, so no step may hold it.
    """
    if amount < 0:
        raise ValueError(f"{amount}: a step holds no negative number")
    if amount.denominator == 1:
        return str(amount.numerator)
    rest = amount.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        raise ValueError(f"{amount}: no finite decimals")
    return f"{float(amount):.10f}".rstrip("0")


def write(tree: Tree, within: str = "") -> str:
    """The formula of a tree, with the brackets that it needs inside an operation `within`."""
    if isinstance(tree, Fraction):
        return spell(tree)
    left, right = write(tree.left, tree.sign), write(tree.right, f"{tree.sign}right")
    text = f"{left}{tree.sign}{right}"
    # Brackets: a sum in a product, and whatever stands right of a minus or a division.
    inner_is_sum = tree.sign in "+-"
    if (within[:1] in ("*", "/") and inner_is_sum) or within in ("-right", "/right"):
        return f"({text})"
    return text


def operations(tree: Tree) -> Iterator[Operation]:
    """Every operation with the values of its sides, inner ones first."""
    if isinstance(tree, Operation):
        yield from operations(tree.left)
        yield from operations(tree.right)
        yield Operation(tree.sign, value(tree.left), value(tree.right))


# -- the ways of one operation, whose sides are numbers ---------------------------------------


def plain(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """`36+73 = 109`."""
    return [(f"{spell(a)}{sign}{spell(b)}", _APPLY[sign](a, b))]


def by_place(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """Tens, then ones: `36+70 = 106. 106+3 = 109`, `6*30 = 180. 6*4 = 24. 180+24 = 204`."""
    if sign == "*":
        a, b = sorted((a, b))
    if sign == "/" or not (_is_whole(a) and _is_whole(b)) or b < 10 or b % 10 == 0:
        return []
    ones = b % 10
    if sign == "*":
        first, second = plain("*", a, b - ones), plain("*", a, ones)
        return [*first, *second, *plain("+", first[0][1], second[0][1])]
    first = plain(sign, a, b - ones)
    return [*first, *plain(sign, first[0][1], ones)]


def both_by_place(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """Tens with tens, ones with ones: `30+70 = 100. 6+3 = 9. 100+9 = 109`."""
    if sign not in "+-" or not (_is_whole(a) and _is_whole(b)) or min(a, b) < 10:
        return []
    ones_a, ones_b = a % 10, b % 10
    if not ones_a or not ones_b or (sign == "-" and ones_a < ones_b):
        return []
    tens, ones = plain(sign, a - ones_a, b - ones_b), plain(sign, ones_a, ones_b)
    return [*tens, *ones, *plain("+", tens[0][1], ones[0][1])]


def over_round_number(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """Too much, then back: `84-50 = 34. 34+4 = 38`; over the next ten where b is one digit."""
    if sign not in "+-" or not (_is_whole(a) and _is_whole(b)) or b % 10 == 0:
        return []
    if b < 10:
        return _over_the_ten(sign, a, b)
    spare = 10 - b % 10
    if sign == "-" and a < b + spare:
        return []
    far = plain(sign, a, b + spare)
    return [*far, *plain("-" if sign == "+" else "+", far[0][1], spare)]


def _over_the_ten(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """`8+2 = 10. 10+3 = 13`, `13-3 = 10. 10-5 = 5`."""
    step = a % 10 if sign == "-" else 10 - a % 10
    if step == 10 or not 0 < step < b:
        return []
    near = plain(sign, a, step)
    return [*near, *plain(sign, near[0][1], b - step)]


def repeated(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """`6+6+6 = 18` for 3*6."""
    # The smaller number says how often, unless only the other one is whole.
    for times, each in (sorted((a, b)), sorted((a, b), reverse=True)):
        if sign == "*" and _is_whole(times) and 2 <= times <= MOST_REPEATED:
            return [("+".join([spell(each)] * int(times)), a * b)]
    return []


def backwards(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """What is missing: `8+2 = 10` for 10-8, `12*4 = 48` for 48/12."""
    if sign == "-" and a > b:
        return plain("+", b, a - b)
    if sign == "/" and b and _is_whole(a / b):
        return plain("*", b, a / b)
    return []


def in_parts(sign: str, a: Fraction, b: Fraction) -> list[Equation]:
    """A quotient's tens, then its ones: `240/12 = 20. 36/12 = 3. 20+3 = 23` for 276/12."""
    if sign != "/" or not b or not _is_whole(a / b):
        return []
    quotient = a / b
    tens = quotient - quotient % 10
    if not tens or tens == quotient:
        return []
    first, second = plain("/", b * tens, b), plain("/", a - b * tens, b)
    return [*first, *second, *plain("+", first[0][1], second[0][1])]


WAYS: Mapping[str, Callable[[str, Fraction, Fraction], list[Equation]]] = {
    "by_place": by_place,
    "both_by_place": both_by_place,
    "over_round_number": over_round_number,
    "repeated": repeated,
    "backwards": backwards,
    "in_parts": in_parts,
}


def _is_whole(amount: Fraction) -> bool:
    return amount.denominator == 1
