"""A right solution made wrong on purpose, by one slip: what a verifier that works must reject.

Knows no task's format: it changes numbers in the text and lets the task itself say that the result
is wrong.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction

from ouroloop.evals.tasks import Problem, Task
from ouroloop.monitors.arith.numbers import DIGITS, to_fraction

_NUMBER = re.compile(rf"(?<![0-9.,])(?:{DIGITS})(?![0-9])")
_EQUALS = re.compile(r"=\s*\$?\s*$")


def corrupt(
    task: Task, problem: Problem, text: str, seed: int, keep_answer: bool = False
) -> str | None:
    """A wrong version of a right `text`, or None when no change of a number makes one.

    By default the last calculation's result is changed wherever the text goes on to state it: a
    slip that the answer follows from. With `keep_answer` the result of some calculation is changed
    and nothing else: the right answer by a wrong step. Whether it is wrong is the task's own word:
    its `grade` reads another answer, or its `check_steps` finds the step.
    """
    rng = random.Random(f"{problem.id}/{seed}/{keep_answer}")
    right = task.grade(problem, text).answer
    numbers = list(_NUMBER.finditer(text))
    results = [i for i, number in enumerate(numbers) if _EQUALS.search(text, 0, number.start())]
    if keep_answer:
        for index in rng.sample(results, len(results)):
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
    first = max((i for i in stated if i in results), default=stated[-1])
    spelling = numbers[stated[-1]][0]
    wrong = _replace(
        text,
        [numbers[i] for i in stated if i >= first and numbers[i][0] == spelling],
        _slip(spelling, rng),
    )
    grade = task.grade(problem, wrong)
    return wrong if grade.answer not in (None, right) and grade.correct is not True else None


def _slip(digits: str, rng: random.Random) -> str:
    """The number with one digit one up or down; its length and its commas stay."""
    at = rng.choice([i for i, sign in enumerate(digits) if sign.isdigit()])
    least = 1 if at == 0 and len(digits) > 1 else 0
    options = [d for d in (int(digits[at]) - 1, int(digits[at]) + 1) if least <= d <= 9]
    return f"{digits[:at]}{rng.choice(options)}{digits[at + 1 :]}"


def _replace(text: str, numbers: list[re.Match[str]], new: str) -> str:
    for number in reversed(numbers):
        text = text[: number.start()] + new + text[number.end() :]
    return text


def _is(digits: str, answer: str | None) -> bool:
    """Whether a number as written has the answer's size; its sign stands outside."""
    try:
        return answer is not None and to_fraction(digits) == abs(Fraction(answer))
    except (ValueError, ZeroDivisionError):
        return False
