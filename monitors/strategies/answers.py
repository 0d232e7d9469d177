"""The final answer that a text states."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ouroloop.monitors.arith.expressions import NUMBER, plain_number

MAX_CHARS = 20_000


@dataclass(frozen=True)
class Answer:
    r"""The final answer as strategy: after "####", in the last \boxed{}, else the last number.

    For tasks without steps.
    """

    name: str = "answer"

    def __call__(self, question: str, text: str) -> str | None:
        """The answer as text, numbers in plain form."""
        text = text[-MAX_CHARS:]
        marked = text.rsplit("####", 1)[1].strip().split("\n", 1)[0] if "####" in text else ""
        boxed = re.findall(r"\\boxed\{([^{}]{1,200})\}", text)
        answer = marked or (boxed[-1].strip() if boxed else "")
        if not answer:
            numbers = NUMBER.findall(text)
            answer = numbers[-1] if numbers else ""
        answer = answer.strip(" $").rstrip(".")
        return plain_number(answer) or answer or None

    @staticmethod
    def number(text: str) -> str | None:
        """The answer as a number in plain form, or None when it is none."""
        answer = Answer()("", text)
        return plain_number(answer) if answer is not None else None
