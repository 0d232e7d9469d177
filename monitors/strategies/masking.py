"""A text as step templates: the form of its steps, without numbers, names and the question's words.

What differs between two questions is taken out, what a solver does stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

from ouroloop.monitors.arith.calculations import stated_problem
from ouroloop.monitors.arith.numbers import plain
from ouroloop.monitors.arith.quantities import Givens, givens
from ouroloop.monitors.arith.tokens import Kind, tokens

# Far above any honest text: they bound what a hostile one costs.
MAX_CHARS = 20_000
MAX_STEPS = 100
MAX_STEP_TOKENS = 60
MAX_WORD = 24

_STEP = re.compile(r"\n+|(?<=[a-zA-Z0-9)][.;!?])\s+")
_SIGNS = ("+", "-", "*", "/", "=")
# What English calls the signs; other languages keep the signs alone.
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

    Attributes:
        form: what it does to numbers, "+ G N": the signs it uses and the roles of the numbers it
            uses them on, each once; "" when it holds no number.
        words: what it says besides, lower case.
        text: words, roles and signs in order.
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
    text = plain(text[:MAX_CHARS])
    numbers = _with_stated(givens(question), text)
    # The question's words name its things, not the way in which it is solved.
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
    values = dict.fromkeys([*numbers.values, *stated_problem(text)])
    return replace(numbers, values=tuple(values))


def _step(
    part: str,
    numbers: Givens,
    known: frozenset[str],
    results: set[Fraction],
) -> Step:
    """One step; adds its results to `results`."""
    operands: dict[Fraction, str] = {}
    signs: set[str] = set()
    new: set[Fraction] = set()
    words: list[str] = []
    spelled: list[str] = []
    brings = False  # the last sign was an equals sign: the next number is a result
    line = [token for token in tokens(part) if token.kind is not Kind.NOTE]
    for index, token in enumerate(line[:MAX_STEP_TOKENS]):
        word = token.text.lower()
        sign = token.text if token.text in _SIGNS else _WORD_SIGNS.get(word, "")
        if token.kind is Kind.NUMBER:
            amount = token.value or Fraction(0)
            if brings:
                new.add(amount)
                spelled.append("=")
            else:
                role = _role(amount, numbers, results)
                operands.setdefault(amount, role)
                spelled.append(role)
            brings = False
        elif sign == "=":
            brings = bool(operands)
        elif sign:
            signs.add(sign)
        if token.text in _SIGNS:
            spelled.append(token.text)
        # A capital inside a sentence; at its start every word has one.
        is_name = index > 0 and token.text[:1].isupper()
        if token.kind is Kind.WORD and word not in known and not is_name:
            words.append(word[:MAX_WORD])
            spelled.append(words[-1])
    # Only after the step: its own result is no operand of it.
    results |= new
    form = ""
    if operands:
        form = " ".join([*sorted(signs), *sorted(set(operands.values()))])
    return Step(form, tuple(words), " ".join(spelled))


def _role(
    amount: Fraction,
    numbers: Givens,
    results: set[Fraction],
) -> str:
    """R: a result of an earlier step; G: given; N: new."""
    if amount in results:
        return "R"
    return "G" if numbers.index(amount) is not None else "N"
