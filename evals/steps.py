"""Every equation that a text writes down, each checked exactly.

`47+35=82`, `<<48/2=24>>`, `1/2 x 10 = $5`, `2+3=5+1=6`. Knows nothing of problems or answers;
`ouroloop.monitors.arith` does the reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ouroloop.evals.tasks import StepCheck
from ouroloop.monitors.arith.calculations import Equation, equations
from ouroloop.monitors.arith.calculations import calculation_key as calculation_key
from ouroloop.monitors.arith.numbers import spell
from ouroloop.monitors.arith.sides import Side


@dataclass(frozen=True)
class Calculation:
    """One equation of a text: its one spelling, and whether it holds.

    expected: the value of its left side; None for a division by zero.
    """

    text: str
    valid: bool
    expected: Fraction | None


def calculations(text: str) -> tuple[str, ...]:
    """The equations of a text in order, in their one spelling.

    No spaces, commas or units (`1,200 x 2 = $2400` -> `1200*2=2400`).
    """
    return tuple(found.text for found in find_calculations(text))


def check(text: str) -> StepCheck:
    """Check every equation of a text; `valid` is None when there is none.

    A result is right when it equals the left side exactly or, written with decimals, is less than
    one unit of its last place away (rounded or cut: 8/3=2.67 and 8/3=2.66 are right, 8/3=3 is
    wrong). A percent sign may mean /100 or nothing (1/2=50%, 20%*50=10), a scale word its factor
    or nothing (2 million + 3 million = 5 million). `2+3=5+1=6` is a running total (2+3=5, 5+1=6)
    where the strict reading fails. Of several results of one calculation each must hold: 2+2=4=5
    is wrong.
    """
    found = find_calculations(text)
    for index, step in enumerate(found):
        if not step.valid:
            value = "undefined (division by zero)"
            if step.expected is not None:
                value = spell(step.expected)
            return StepCheck(False, len(found), index, f"{step.text}: the left side is {value}")
    if not found:
        return StepCheck(None, 0, None, "no calculation found")
    return StepCheck(True, len(found))


def find_calculations(text: str) -> list[Calculation]:
    """All equations of a text, checked."""
    return [_checked(equation) for equation in equations(text)]


def _checked(equation: Equation) -> Calculation:
    left, right = equation.left, equation.right
    expected = None
    if left.values:
        expected = left.values[0]
    valid = _agree(left, right) or (left.is_number and _agree(right, left))
    return Calculation(str(equation), valid, expected)


def _agree(value: Side, stated: Side) -> bool:
    """Whether `stated` equals `value` at the decimal places that it is written with."""
    margin = Fraction(0)
    if stated.places:
        # One unit of the last place, not half of one: GSM8K's solutions cut as often as they round.
        margin = Fraction(1, 10**stated.places)
    return any(
        shown == exact or abs(shown - exact) < margin
        for exact in value.values
        for shown in stated.values
    )
