"""Every calculation that a text writes down, each checked exactly.

`47+35=82`, `<<48/2=24>>`, `1/2 x 10 = $5`, `2+3=5+1=6`.

Knows nothing of problems or answers; `equations.py` does the reading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from ouroloop.evals.equations import Side, chains
from ouroloop.evals.numerals import spell
from ouroloop.evals.tasks import StepCheck

MAX_TEXT = 20_000
"""Only so many first characters of a text are read."""
MAX_LINE = 2_000
MAX_CALCULATIONS = 500

_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")


@dataclass(frozen=True)
class Calculation:
    """One equation of a text: its canonical spelling, and what its left side comes to (None.

    Division by zero).
    """

    text: str
    valid: bool
    expected: Fraction | None


def calculations(text: str) -> tuple[str, ...]:
    """The calculations of a text in order, in canonical spelling.

    No spaces, commas or units (`1,200 x 2 = $2400` -> `1200*2=2400`).
    """
    return tuple(found.text for found in find_calculations(text))


def calculation_key(text: str) -> str:
    """What makes two traces duplicates for rejection-sampling fine-tuning.

    Their calculations, sorted; "" when there are none.

    Source: Yuan et al. 2308.01825 (distinct equation lists). They compare lists in order; the order
    is dropped here, so that swapping two independent steps does not make a new path.
    """
    return ";".join(sorted(calculations(text)))


def check(text: str) -> StepCheck:
    """Check every calculation of a text; `valid` is None when there is none.

    A result is right when it equals the left side exactly or, written with decimals, is less than
    one unit of its last place away (rounded or cut: 8/3=2.67 and 8/3=2.66 are right, 8/3=3 is
    wrong). A percent sign may mean /100 or nothing (1/2=50%, 20%*50=10). `2+3=5+1=6` is a running
    total (2+3=5, 5+1=6) where the strict reading fails.
    """
    found = find_calculations(text)
    for index, step in enumerate(found):
        if not step.valid:
            value = (
                "undefined (division by zero)" if step.expected is None else spell(step.expected)
            )
            return StepCheck(False, len(found), index, f"{step.text}: the left side is {value}")
    return (
        StepCheck(True, len(found)) if found else StepCheck(None, 0, None, "no calculation found")
    )


def find_calculations(text: str) -> list[Calculation]:
    """All calculations of a text, line by line.

    A line's `<<...>>` come first; its plain text adds those that they do not hold already.
    """
    found: list[Calculation] = []
    for line in text[:MAX_TEXT].splitlines():
        noted = [step for note in _ANNOTATION.findall(line) for step in _of_line(note)]
        known = Counter(step.text for step in noted)
        for step in _of_line(_ANNOTATION.sub("", line[:MAX_LINE])):
            if known[step.text] > 0:
                known[step.text] -= 1
            else:
                noted.append(step)
        found += noted
        if len(found) >= MAX_CALCULATIONS:
            break
    return found[:MAX_CALCULATIONS]


def _of_line(line: str) -> Iterator[Calculation]:
    for chain in chains(line):
        for left, right in pairwise(chain):
            step = None if left is None or right is None else _equation(left, right)
            if step is not None:
                yield step


def _equation(left: Side, right: Side) -> Calculation | None:
    """The equation between two neighbouring sides; None when neither side calculates anything."""
    is_fraction = len(left.tokens) == 3 and left.tokens[1] == "/" and left.unit != right.unit
    is_amount = bool(left.unit) and (left.is_number or is_fraction)  # 1/2 hour = 30 minutes
    if (left.is_number and right.is_number) or is_amount:
        return None
    expected = left.values[0] if left.values else None
    valid = _agree(left, right) or (left.is_number and _agree(right, left))
    if (
        not valid
        and not left.is_number
        and not right.is_number
        and right.tokens[0] not in ("(", "-")
    ):
        total = Fraction(right.tokens[0].rstrip("%"))
        if total in left.values:
            return Calculation(f"{left}={spell(total)}", True, expected)
    return Calculation(f"{left}={right}", valid, expected)


def _agree(value: Side, stated: Side) -> bool:
    """Whether `stated`, to the decimal places it is written with, is what `value` comes to."""
    margin = Fraction(1, 10**stated.places) if stated.places else Fraction(0)
    return any(
        shown == exact or abs(shown - exact) < margin
        for exact in value.values
        for shown in stated.values
    )
