"""A right solution made wrong on purpose, by one slip: what a verifier that works must reject.

Knows no task's format: it changes numbers in the text and lets the task itself say that the result
is wrong.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction

from ouroloop.evals.tasks import Problem, Task
from ouroloop.monitors.arith.answers import is_number
from ouroloop.monitors.arith.numbers import DIGITS, MAX_DIGITS, to_fraction

_NUMBER = re.compile(rf"(?<![0-9.,])(?:{DIGITS})(?![0-9])")
_EQUALS = re.compile(r"=\s*\$?\s*$")

# A longer text is not made wrong: graders and step checkers read no more of it either.
MAX_TEXT = 20_000
# Results that are changed in turn until the task says that one change is a wrong step. Each try
# reads the whole text again.
MAX_TRIES = 20
# Characters before a number in which its "=" is looked for. From the text's start it would cost
# the square of its length.
_BEFORE = 16


def corrupt(
    task: Task, problem: Problem, text: str, seed: int, keep_answer: bool = False
) -> str | None:
    """A wrong version of a right `text`, or None when no change of a number makes one.

    By default the last calculation's result is changed wherever the text goes on to state it: a
    slip that the answer follows from. With `keep_answer` the result of some calculation is changed
    and nothing else: the right answer by a wrong step. Whether it is wrong is the task's own word:
    its `grade` reads another answer, or its `check_steps` finds the step.
    """
    if len(text) > MAX_TEXT:
        return None
    rng = random.Random(f"{problem.id}/{seed}/{keep_answer}")
    right = task.grade(problem, text).answer
    numbers = list(_NUMBER.finditer(text))
    results = [
        i
        for i, number in enumerate(numbers)
        if _EQUALS.search(text[max(0, number.start() - _BEFORE) : number.start()])
    ]
    if keep_answer:
        for index in rng.sample(results, len(results))[:MAX_TRIES]:
            wrong = _replace(text, numbers[index : index + 1], _slip(numbers[index][0], rng))
            if (
                task.grade(problem, wrong).answer == right
                and task.check_steps(problem, wrong).valid is False
            ):
                return wrong
        return None
    stated = [i for i, number in enumerate(numbers) if _is(number[0], right)]
    if not stated:
        return None
    # From the calculation that results in the answer on. A text that only states its answer has no
    # such calculation: its last number is changed.
    is_result = set(results)
    first = max((i for i in stated if i in is_result), default=stated[-1])
    spelling = numbers[stated[-1]][0]
    wrong = _replace(
        text,
        [numbers[i] for i in stated if i >= first and numbers[i][0] == spelling],
        _slip(spelling, rng),
    )
    grade = task.grade(problem, wrong)
    # The task has the last word: some changed texts still state the right answer.
    if grade.answer in (None, right) or grade.correct is True:
        return None
    return wrong


def _slip(digits: str, rng: random.Random) -> str:
    """The number with one digit one up or down; its length and its commas stay."""
    at = rng.choice([i for i, sign in enumerate(digits) if sign.isdigit()])
    # A leading 0 would change how the number is written, and show the slip by its form alone.
    least = 0
    if at == 0 and len(digits) > 1:
        least = 1
    options = [d for d in (int(digits[at]) - 1, int(digits[at]) + 1) if least <= d <= 9]
    return f"{digits[:at]}{rng.choice(options)}{digits[at + 1 :]}"


def _replace(text: str, numbers: list[re.Match[str]], new: str) -> str:
    for number in reversed(numbers):
        text = text[: number.start()] + new + text[number.end() :]
    return text


def _is(digits: str, answer: str | None) -> bool:
    """Whether a number as written has the answer's size; its sign stands outside.

    The answer must be a plain number of a readable length before Fraction sees it: "1e999999999" is
    one answer in ten characters, and a Fraction of a thousand million digits.
    """
    if answer is None or len(answer) > 2 * MAX_DIGITS or not is_number(answer):
        return False
    try:
        return to_fraction(digits) == abs(Fraction(answer))
    except ZeroDivisionError:
        return False
