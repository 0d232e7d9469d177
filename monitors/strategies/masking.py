"""A text as step templates: what numbers, names and the question's own words say is taken out.

The form of the steps stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

from ouroloop.monitors.arith.calculations import expressions
from ouroloop.monitors.arith.expressions import MAX_DIGITS, plain_number
from ouroloop.monitors.arith.quantities import Givens, givens

MAX_CHARS = 20_000
MAX_STEPS = 100
MAX_STEP_TOKENS = 60
MAX_WORD = 24

_STEP = re.compile(r"\n+|(?<=[a-zA-Z0-9)][.;!?])\s+")
_TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)|(?P<word>[^\W\d_]+)|(?P<sign>[+\-*/×÷−–=])|(?P<other>\S)",
    re.ASCII,
)
_SIGNS = {"×": "*", "÷": "/", "−": "-", "–": "-"}
_SPOKEN = {
    "+": "plus add adds added adding sum total together more",
    "-": (
        "minus less subtract subtracts subtracted subtracting difference left fewer away remain"
        " remains remaining"
    ),
    "*": "times multiply multiplies multiplied multiplying product twice double x",
    "/": "divide divides divided dividing half per split",
    "=": "is equals equal makes make gives give",
}
_WORD_SIGNS = {word: sign for sign, words in _SPOKEN.items() for word in words.split()}


@dataclass(frozen=True)
class Step:
    """One sentence or line.

    form: what it does to numbers, "+ G N": the signs it uses and the roles of the numbers it uses
    them on, each once; "" when it holds no number. words: what it says besides, lower case. text:
    words, roles and signs in order.
    """

    form: str
    words: tuple[str, ...]
    text: str


def steps(question: str, text: str) -> list[Step]:
    """The steps of a text, at most `MAX_STEPS`; a step without words and numbers is left out.

    A number's role: R was the result of an earlier step, G is given by the question (or by the
    text's opening expression, "47+35"), N is new. A step's own result has no role. Words of the
    question and capitalised words inside a sentence are dropped.
    """
    text = text[:MAX_CHARS]
    numbers = _with_stated(givens(question), text)
    known = frozenset(re.findall(r"[^\W\d_]+", question[:MAX_CHARS].lower()))
    results: set[Fraction] = set()
    found = []
    for part in islice(_parts(text), MAX_STEPS):
        step = _step(part, numbers, known, results)
        if step.text:
            found.append(step)
    return found


def _parts(text: str) -> Iterator[str]:
    start = 0
    for match in _STEP.finditer(text):
        yield text[start : match.start()]
        start = match.end()
    yield text[start:]


def _with_stated(numbers: Givens, text: str) -> Givens:
    stated = tuple(Fraction(number) for number in next(expressions(text), ()))
    return replace(numbers, values=tuple(dict.fromkeys([*numbers.values, *stated])))


def _step(part: str, numbers: Givens, known: frozenset[str], results: set[Fraction]) -> Step:
    """One step; adds its results to `results`."""
    operands: dict[Fraction, str] = {}
    signs: set[str] = set()
    new: set[Fraction] = set()
    words, spelled = [], []
    brings = False
    for index, match in enumerate(islice(_TOKEN.finditer(part), MAX_STEP_TOKENS)):
        token = match[0]
        sign = _SIGNS.get(token, token) if match["sign"] else _WORD_SIGNS.get(token.lower(), "")
        if match["number"]:
            plain = plain_number(token) if len(token) <= MAX_DIGITS else None
            amount = Fraction(plain) if plain else Fraction(0)
            role = "R" if amount in results else "G" if numbers.index(amount) is not None else "N"
            if brings:
                new.add(amount)
            else:
                operands.setdefault(amount, role)
            spelled.append("=" if brings else role)
            brings = False
        elif sign == "=":
            brings = bool(operands)
        elif sign:
            signs.add(sign)
        if match["sign"]:
            spelled.append(token)
        elif (
            match["word"] and token.lower() not in known and (index == 0 or not token[0].isupper())
        ):
            words.append(token.lower()[:MAX_WORD])
            spelled.append(words[-1])
    results |= new
    form = " ".join([*sorted(signs), *sorted(set(operands.values()))]) if operands else ""
    return Step(form, tuple(words), " ".join(spelled))
