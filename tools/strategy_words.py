"""The arithmetic world's traces, written in words.

Each step in one of several wordings with random names and things: a test of free text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ouroloop.evals.worlds.arithmetic import strategies as st

WORDINGS = {
    "+": (
        "{a} plus {b} is {r}.",
        "Adding {b} to {a} gives {r}.",
        "{a} + {b} = {r}.",
        "Then {a}+{b}={r}",
        "So {name} has {a} and {b} more, that makes {r} {thing}.",
    ),
    "-": (
        "{a} minus {b} is {r}.",
        "Take {b} away from {a}: {a} - {b} = {r}.",
        "{a} less {b} gives {r} {thing}.",
    ),
    "*": (
        "{a} times {b} is {r}.",
        "{a} x {b} = {r} {thing}.",
        "Multiply {a} by {b}: {a} * {b} = {r}.",
    ),
}
ENDINGS = ("The answer is {r}.", "So {name} has {r} {thing} in all.", "Answer: {r}")
NAMES = ("Tom", "Ana", "Ben", "Eva", "Sam", "Mia")
THINGS = ("apples", "coins", "books", "cards")
T = TypeVar("T")


def reworded(text: str, rng: random.Random) -> str:
    """One trace in words, on one line or several.

    Its first line, the problem in signs, is left out.
    """
    trace = st.parse(text)
    if trace is None:
        return text
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    sentences = []
    for expression, value in trace.steps:
        first, *rest = re.split(r"([+*-])", expression)
        if len(rest) == 2:
            sentences.append(
                rng.choice(WORDINGS[rest[0]]).format(
                    a=first, b=rest[1], r=value, name=name, thing=thing
                )
            )
        # Only a calculation with two numbers has wordings of its own.
        elif rng.random() < 0.5:
            sentences.append(f"{expression.replace('+', ' plus ')} is {value}.")
        else:
            sentences.append(f"{expression} = {value}.")
    sentences.append(rng.choice(ENDINGS).format(r=trace.answer, name=name, thing=thing))
    return ("\n" if rng.random() < 0.5 else " ").join(sentences)


def in_words(traces: Sequence[T]) -> list[T]:
    """Traces, of any dataclass with a `text`, in words; the same traces give the same words."""
    # One generator for all traces, with a fixed seed: the report can be repeated.
    rng = random.Random("words")
    found: list[Any] = [*traces]
    return [replace(trace, text=reworded(trace.text, rng)) for trace in found]
