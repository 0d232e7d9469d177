"""What counts as the same strategy, when the task cannot say: canonicalisers of a trace's text.

Text is untrusted: read in one pass, at most `MAX_CHARS` of it, nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Protocol

MAX_CHARS = 20_000
MAX_DIGITS = 60


class Canonicaliser(Protocol):
    """Names the strategy of a trace; None when the text shows none. Equal names: same strategy. Must be deterministic."""

    @property
    def name(self) -> str:
        """Key in `CANONICALISERS`."""
        ...

    def __call__(self, question: str, text: str) -> str | None:
        """The strategy of `text`, an answer to `question`."""
        ...


@dataclass(frozen=True)
class Calculations:
    """The multiset of calculations, "12+30=42;42+5=47", sorted: traces that only order or word them differently are the same.

    Source: RFT (Yuan et al. 2308.01825) keeps one reasoning path per distinct list of equations.
    """

    name: str = "calculations"

    def __call__(self, question: str, text: str) -> str | None:
        """Sorted calculations joined by ";"."""
        found = sorted("".join(left) + "=" + right for left, right in calculations(text))
        return ";".join(found) or None


@dataclass(frozen=True)
class Operators:
    """The operators of each calculation in the order of the text: "+|*-" is a sum, then a product less something."""

    name: str = "operators"

    def __call__(self, question: str, text: str) -> str | None:
        """Operator groups joined by "|"."""
        groups = ["".join(token for token in left if token in OPERATORS) for left, _ in calculations(text)]
        return "|".join(groups) or None


@dataclass(frozen=True)
class Answer:
    r"""The final answer as strategy: after "####", in the last \boxed{}, else the last number. For tasks without steps."""

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


CANONICALISERS: Mapping[str, Canonicaliser] = {c.name: c for c in (Calculations(), Operators(), Answer())}

OPERATORS = "+-*/"
NUMBER = re.compile(r"-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
_TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)|(?P<sign>[+\-*/×÷−()=]|(?<![A-Za-z])[xX](?![A-Za-z]))"
    r"|(?P<skip>[ \t$%])|.", re.S,
)
_SAME = {"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-"}


def calculations(text: str) -> Iterator[tuple[list[str], str]]:
    """Every "expression = number" with at least one operator between numbers, as (tokens of the left side, result).

    Thousands commas, "$", "%" and blanks are dropped; × ÷ − and a free-standing x are * / - *. "48/2 = <<48/2=24>>24" counts
    once.
    """
    left: list[str] = []
    waiting: list[str] | None = None
    minus = ""
    for match in _TOKEN.finditer(text[:MAX_CHARS]):
        kind = match.lastgroup
        if kind == "skip":
            continue
        token = _SAME.get(match.group(), match.group())
        if kind == "number":
            token = plain_number(token) or token
            if waiting is not None:
                yield waiting, minus + token
                left, waiting, minus = [minus + token], None, ""
            elif left and left[-1][-1].isdigit():
                left = [token]
            else:
                left.append(token)
        elif kind == "sign" and token == "=":
            waiting, minus = (_trimmed(left), "") if waiting is None and _calculates(left) else (None, "")
            left = []
        elif kind == "sign" and waiting is not None:
            minus, waiting = ("-", waiting) if token == "-" and not minus else ("", None)
        elif kind == "sign":
            left.append(token)
        else:
            left, waiting, minus = [], None, ""


def plain_number(text: str) -> str | None:
    """"1,200.50" -> "1200.5"; None when the text is no number or longer than `MAX_DIGITS`."""
    if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in ("-0", "") else plain


def _calculates(left: list[str]) -> bool:
    """Whether an operator stands between two numbers and the expression ends in a number or a bracket."""
    numbers = [i for i, token in enumerate(left) if token[-1].isdigit()]
    if len(numbers) < 2 or (left[-1] != ")" and not left[-1][-1].isdigit()):
        return False
    return any(token in OPERATORS for token in left[numbers[0] + 1: numbers[-1]])


def _trimmed(left: list[str]) -> list[str]:
    """Without operators before the first number or bracket (list dashes) and without unmatched outer brackets."""
    start = 0
    while start < len(left) and left[start] in OPERATORS:
        start += 1
    kept = left[start:]
    while kept.count("(") > kept.count(")") and kept[0] == "(":
        kept = kept[1:]
    while kept.count(")") > kept.count("(") and kept[-1] == ")":
        kept = kept[:-1]
    return kept
