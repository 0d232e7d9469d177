"""The named strategies, each one program that writes a trace.

A strategy is a generator: it yields the next expression ("47+30"), is sent the value that the
writer *claims* for it, and returns the answer that follows from the claimed values. The same
program therefore writes demonstrations (true values), writes plausible slips (a wrong value that
the rest is built on), names the strategy of a trace (whose expressions does it reproduce, given its
own values?) and finds the first wrong step.

A trace says first what it has read, then one calculation per line, then the answer: `47+35`,
`7+5=12`, `4+3+1=8`, `answer 82`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Yields expressions, receives claimed values, returns the answer.
Program = Generator[str, int, int]

NUM_PLACES = 6


def column(a: int, b: int) -> Program:
    """Digit by digit from the right, carrying."""
    answer, place, carry = 0, 1, False
    while True:
        # The claimed value goes on, right or wrong: that is what makes slips plausible.
        value = yield f"{a % 10}+{b % 10}" + ("+1" if carry else "")
        a, b = a // 10, b // 10
        # The last column keeps its carry, as on paper.
        if not (a or b):
            return answer + value * place
        answer, carry, place = answer + value % 10 * place, value >= 10, place * 10


def split(a: int, b: int) -> Program:
    """By place value: hundreds, tens and ones on their own, then together."""
    top = 10 ** (len(str(max(a, b))) - 1)
    parts = []
    while top:
        parts.append((yield f"{a // top % 10 * top}+{b // top % 10 * top}"))
        top //= 10
    total = parts[0]
    for part in parts[1:]:
        total = yield f"{total}+{part}"
    return total


def jump(a: int, b: int) -> Program:
    """From the first number in jumps of hundreds, tens and ones of the second."""
    # Largest jumps first; a digit of 0 is no jump.
    for place in (10**i for i in reversed(range(NUM_PLACES))):
        if digit := b // place % 10:
            a = yield f"{a}+{digit * place}"
    return a


def compensate(a: int, b: int) -> Program:
    """Round the first number up to the next ten, add, take the surplus away.

    Does not apply to a round number.
    """
    surplus = 10 - a % 10
    rounded = yield f"{a}+{surplus}"
    total = yield f"{rounded}+{b}"
    return (yield f"{total}-{surplus}")


def count_up(a: int, target: int) -> Program:
    """Missing addend: jump from a to the next ten, on in tens, then in ones.

    The jumps together are the answer.
    """
    jumps: list[int] = []
    while not jumps or a < target:
        # A claimed value may lie past the target: then nothing is left, and the loop ends.
        to_ten, left = -a % 10, max(target - a, 0)
        # First up to the next full ten, then whole tens, then what is left.
        if 0 < to_ten < left:
            jumps.append(to_ten)
        elif left >= 10:
            jumps.append(left // 10 * 10)
        else:
            jumps.append(left)
        a = yield f"{a}+{jumps[-1]}"
    # A single jump is no calculation: there is nothing to add up.
    if len(jumps) == 1:
        return jumps[0]
    return (yield "+".join(map(str, jumps)))


def compensate_product(price: int, count: int) -> Program:
    """Several of a price just under a round one.

    Round the price up, multiply, take the surplus away.
    """
    surplus = 10 - price % 10
    rounded = yield f"{price}+{surplus}"
    total = yield f"{rounded}*{count}"
    over = yield f"{surplus}*{count}"
    return (yield f"{total}-{over}")


Maker = Callable[[int, int], Program]
SUM_STRATEGIES: dict[str, Maker] = {
    "column": column,
    "split": split,
    "compensate": compensate,
    "jump": jump,
}
# Strategies that can solve a family at all. Only `jump` maps onto missing addends, only
# `compensate` onto prices just under a round one.
STRATEGIES: dict[str, dict[str, Maker]] = {
    "sum2": SUM_STRATEGIES,
    "sum3": SUM_STRATEGIES,
    "missing": {"jump": count_up},
    "multibuy": {"compensate": compensate_product},
}

# The first line of a trace: the problem in signs.
HEADS = {"sum2": "{a}+{b}", "sum3": "{a}+{b}", "missing": "{a}+?={b}", "multibuy": "{a}*{b}"}


@dataclass(frozen=True)
class Trace:
    """A parsed trace.

    Attributes:
        head: the first line, what was read.
        a: the first number read.
        b: the second number read.
        steps: (expression, claimed value) of each.
        answer: the claimed answer.
    """

    head: str
    a: int
    b: int
    steps: tuple[tuple[str, int], ...]
    answer: int


@dataclass(frozen=True)
class Reading:
    """What a trace is. strategy: None when no program fits.

    First_wrong: 0 is the first line, 1 the first calculation, ...; None: all is right.
    """

    strategy: str | None
    first_wrong: int | None


# The world's own notation, exactly: a line that is not of this form is no line of a trace. The
# common reader (`ouroloop.monitors.arith`) reads past units and words, and would call
# "47 + 35 = 82 apples" a step. Replaying every program on every sample, it would also take most
# of the time of a scripted round.
_HEAD = re.compile(r"^(\d{1,6})(?:[+*]|\+\?=)(\d{1,6})$")
_STEP = re.compile(r"^(\d{1,9}(?:[+\-*]\d{1,9}){1,3})=(-?\d{1,9})$")
_ANSWER = re.compile(r"^answer (-?\d{1,12})$")


def applies(strategy: str, family: str, a: int) -> bool:
    """Whether a strategy can be used on a problem whose first number is `a`."""
    return strategy in STRATEGIES[family] and not (strategy == "compensate" and a % 10 == 0)


def write(
    program: Program, claim: Callable[[int, str], int] = lambda _, expression: value_of(expression)
) -> tuple[list[tuple[str, int]], int]:
    """Run a program.

    `claim(index, expression)` is the value that is written down (by default the true one).
    """
    steps: list[tuple[str, int]] = []
    try:
        expression = next(program)
        while True:
            value = claim(len(steps), expression)
            steps.append((expression, value))
            expression = program.send(value)
    except StopIteration as stop:
        return steps, int(stop.value)


def head(family: str, a: int, b: int) -> str:
    """The first line of a trace about these numbers."""
    return HEADS[family].format(a=a, b=b)


def render(first: str, steps: Sequence[tuple[str, int]], answer: int) -> str:
    """First line, steps and answer as the text of a trace."""
    return "\n".join(
        [first, *(f"{expression}={value}" for expression, value in steps), f"answer {answer}"]
    )


def parse(text: str) -> Trace | None:
    """The trace in `text`, or None when it is not of the world's form."""
    # At least two lines: what was read, and the answer.
    first, *parts, last = text.strip().split("\n") if "\n" in text.strip() else ("", "")
    read_as, answer = _HEAD.match(first), _ANSWER.match(last)
    steps = [_STEP.match(part) for part in parts]
    if read_as is None or answer is None or not all(steps):
        return None
    return Trace(
        first,
        int(read_as[1]),
        int(read_as[2]),
        tuple((m[1], int(m[2])) for m in steps if m),
        int(answer[1]),
    )


def value_of(expression: str) -> int:
    """The true value of an expression as the programs write them, with one kind of operator."""
    if "*" in expression:
        left, right = expression.split("*", 1)
        return int(left) * value_of(right)
    return sum(int(term) for term in re.findall(r"[+-]?\d+", expression))


# Of one text both its strategy and its steps are asked for, by several readers.
@lru_cache(maxsize=2**12)
def read(family: str, a: int, b: int, trace: Trace) -> Reading:
    """Name the strategy of a trace and find its first wrong line.

    Each program is replayed on the numbers that the trace says it read and on its own claimed
    values; the one that predicts the most expressions, from the first on, is the strategy (at
    least one; in the order of `STRATEGIES` on a tie). A line is wrong when it is not the one that
    the strategy calls for or its value is false.
    """
    best, most, wrong = None, 0, 0
    # The numbers that the trace read, which may not be the problem's: a misread problem still
    # shows a strategy.
    for name, maker in STRATEGIES.get(family, {}).items():
        if applies(name, family, trace.a) and trace.head == head(family, trace.a, trace.b):
            matched, found = _replay(maker(trace.a, trace.b), trace)
            if matched > most:
                best, most, wrong = name, matched, found
    if best is None or trace.head != head(family, a, b):
        return Reading(best, 0)
    return Reading(best, None if wrong > len(trace.steps) else wrong + 1)


def _replay(program: Program, trace: Trace) -> tuple[int, int]:
    """(expressions predicted in a row, index of the first wrong step).

    The index is len(steps) for the answer, and len(steps) + 1 for none.
    """
    wrong = len(trace.steps) + 1
    try:
        expected = next(program)
        for index, (expression, value) in enumerate(trace.steps):
            if expression != expected:
                return index, min(wrong, index)
            # Noted, not ended: the steps after a slip still say which strategy it is.
            if value != value_of(expression):
                wrong = min(wrong, index)
            expected = program.send(value)
    # The program has ended: the trace is complete if its steps have ended too.
    except StopIteration as stop:
        complete = index == len(trace.steps) - 1
        if complete and trace.answer != stop.value:
            wrong = min(wrong, len(trace.steps))
        return len(trace.steps) + complete if complete else index + 1, (
            wrong if complete else min(wrong, index + 1)
        )
    return len(trace.steps), min(wrong, len(trace.steps))
