"""The final answer that a text states."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ouroloop.monitors.arith.answers import canonical, extract_answer, is_number, only_number


@dataclass(frozen=True)
class Answer:
    """The final answer as strategy: what the text marks as its answer, else its last number.

    For tasks without steps.
    """

    name: str = "answer"

    def __call__(self, question: str, text: str) -> str | None:
        """The answer in its one spelling."""
        # A marked answer first; without a mark the last number is what most texts end with.
        stated = extract_answer(text, last_number=True)
        if stated is None:
            return None
        read = canonical(stated)
        if read is not None and is_number(read):
            return read
        # "12 apples and no pears": the number in it, where there is only one.
        return only_number(stated) or read


def answer_amount(text: str) -> Fraction | None:
    """The final answer as a number, or None when it is none."""
    answer = Answer()("", text)
    return Fraction(answer) if answer is not None and is_number(answer) else None
