"""Demonstrations for ASDiv's problems, several for each, written by a program from its formula.

ASDiv (people's word problems, CC BY-NC) comes with one formula a problem. Learnt from formulas
alone a model has one way for each problem, and a loss of ways cannot be seen. So every formula is
written in several: at once, step by step, in another order, by place, over a round number,
backwards, as a repeated sum; bare or with words. Each text is checked by the step check and by the
grader before it is kept. Nothing of this is committed: the file is made in the run's data folder.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ouroloop.evals.grading import grade
from ouroloop.evals.steps import check
from ouroloop.loop.folder.storage import write_text

from .ways import WAYS, Equation, Operation, Tree, operations, parse, plain, spell, value, write

# Ways of a problem that are written down, at most; most problems of one step have three to five.
MOST = 4
# Longer ones are cut by the recipe's max_tokens, and teach a small model nothing but length.
MOST_CHARACTERS = 150

# What may stand before an equation; {a} and {b} are the numbers of the plain operation.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "+": ("We add {a} and {b}: ", "Together that is "),
    "-": ("We take {b} from {a}: ", "What is left is "),
    "*": ("We have {a} times {b}: ", "In all that is "),
    "/": ("We share {a} by {b}: ", "Each part is "),
}
_BACKWARDS = {"-": "What is missing from {b} to {a}? ", "/": "How often is {b} in {a}? "}
_ORDER = ("First, ", "Then ", "Now ")


@dataclass(frozen=True)
class Demonstration:
    """One solution of a problem, and the way in which it is written."""

    way: str
    text: str


def demonstrations(row: Mapping[str, Any], seed: int) -> list[Demonstration]:
    """At most `MOST` checked solutions in different ways, the same for the same seed.

    The first is by any of the ways. [] where the row has no formula that gives its answer.
    """
    formula = str(row.get("solution") or "").partition(" = ")[0]
    tree = parse(formula)
    if tree is None or not _gives(tree, str(row["answer"])):
        return []
    # By the problem's id: another problem more or less in the file changes no text.
    rng = random.Random(f"{seed}:{row['id']}")
    found: dict[str, Demonstration] = {}
    for way, equations in _candidates(tree, rng):
        text = _text(way, equations, tree, str(row["answer"]), rng)
        if is_right(text, str(row["answer"])):
            found.setdefault(text, Demonstration(way, text))
    kept = list(found.values())
    rng.shuffle(kept)
    return kept[:MOST]


def _gives(tree: Tree, answer: str) -> bool:
    """Whether the formula has a step at all and leads to the answer.

    The grader cannot say so: it reads the answer that a text states, whatever the steps gave.
    """
    try:
        return isinstance(tree, Operation) and value(tree) == Fraction(answer)
    except (ValueError, ZeroDivisionError):
        return False


def is_right(text: str, answer: str) -> bool:
    """Whether every step holds, the final answer is the gold one, and the text is short enough."""
    steps = check(text)
    right = grade(answer, text).correct
    return bool(steps.valid and right and len(text) <= MOST_CHARACTERS)


def _candidates(tree: Tree, rng: random.Random) -> Iterator[tuple[str, list[Equation]]]:
    """Every way that fits, with its equations; those whose steps cannot be spelt are left out."""
    makers = {
        "formula": lambda: [(write(tree), value(tree))],
        "steps": lambda: _by_steps(tree),
        "reordered": lambda: _whole_or_steps(reordered(tree, rng), rng),
    }
    for way, make in makers.items():
        if equations := _spelt(make):
            yield way, equations
    # One operation in an unusual way is enough: the others stay plain, and the text short.
    for way in WAYS:
        if equations := _spelt(lambda way=way: _with_way(tree, way, rng)):
            yield way, equations


def _spelt(make: Any) -> list[Equation]:
    """The equations, or [] where a step has no finite decimals or falls below zero."""
    try:
        equations: list[Equation] = make()
        for _, amount in equations:
            spell(amount)
    except (ValueError, ZeroDivisionError):
        return []
    return equations


def _by_steps(tree: Tree) -> list[Equation]:
    steps = [equation for each in operations(tree) for equation in plain(*_sides(each))]
    # One step alone is the formula again.
    return steps if len(steps) > 1 else []


def _whole_or_steps(tree: Tree, rng: random.Random) -> list[Equation]:
    steps = _by_steps(tree)
    return steps if steps and rng.random() < 0.5 else [(write(tree), value(tree))]


def _with_way(tree: Tree, way: str, rng: random.Random) -> list[Equation]:
    """All operations plain but one, which is written in this way; [] where it fits none."""
    each = list(operations(tree))
    fitting = [i for i, step in enumerate(each) if WAYS[way](*_sides(step))]
    if not fitting:
        return []
    chosen = rng.choice(fitting)
    equations: list[Equation] = []
    for i, step in enumerate(each):
        equations += WAYS[way](*_sides(step)) if i == chosen else plain(*_sides(step))
    return equations


def _sides(step: Operation) -> tuple[str, Any, Any]:
    return step.sign, step.left, step.right


def reordered(tree: Tree, rng: random.Random) -> Tree:
    """The terms of each sum and the factors of each product in another order.

    a-b+c may become a+c-b or c+a-b; a term that is subtracted never goes first.
    """
    if not isinstance(tree, Operation):
        return tree
    signs = "+-" if tree.sign in "+-" else "*/"
    parts = list(_flat(tree, signs, signs[0]))
    rng.shuffle(parts)
    # A stable sort by one key: the first part must be one that is added or multiplied.
    first = next(i for i, (sign, _) in enumerate(parts) if sign == signs[0])
    parts.insert(0, parts.pop(first))
    out = reordered(parts[0][1], rng)
    for sign, part in parts[1:]:
        out = Operation(sign, out, reordered(part, rng))
    return out


def _flat(tree: Tree, signs: str, sign: str) -> Iterator[tuple[str, Tree]]:
    """(sign, part) of a sum's terms or a product's factors, brackets dissolved."""
    if isinstance(tree, Operation) and tree.sign in signs:
        turned = {signs[0]: signs[1], signs[1]: signs[0]}
        yield from _flat(tree.left, signs, sign)
        yield from _flat(tree.right, signs, sign if tree.sign == signs[0] else turned[sign])
    else:
        yield sign, tree


def _text(
    way: str, equations: Sequence[Equation], tree: Tree, answer: str, rng: random.Random
) -> str:
    """The equations as sentences, half of the time with words, and the answer."""
    written = [f"{left} = {spell(amount)}." for left, amount in equations]
    if rng.random() < 0.5:
        written = _worded(way, written, list(operations(tree)), rng)
    return f"{' '.join(written)} The answer is {answer}."


def _worded(
    way: str, written: Sequence[str], steps: Sequence[Operation], rng: random.Random
) -> list[str]:
    if len(written) > 1:
        # Of several: first, then, now; the last two words are used again where there are more.
        words = [_ORDER[min(i, len(_ORDER) - 1)] for i in range(len(written))]
        return [word + text for word, text in zip(words, written, strict=True)]
    if len(steps) > 1:
        return ["We put it in one line: " + written[0]]
    sign, a, b = _sides(steps[0])
    if way == "backwards":
        lead = _BACKWARDS[sign]
    else:
        lead = rng.choice(_WORDS[sign])
    return [lead.format(a=spell(a), b=spell(b)) + written[0]]


def rows(source: Iterable[str], seed: int) -> Iterator[dict[str, Any]]:
    """Every problem of a JSONL file of problems, as a question, with our demonstrations if any.

    `solution` is one of them, `solutions` are all: a model is trained on all, one is replayed.
    The formula as it came is left out: it is one of the ways.
    """
    for line in source:
        row = json.loads(line)
        found = demonstrations(row, seed)
        row.pop("solution", None)
        if found:
            row |= {
                "solution": found[0].text,
                "solutions": [each.text for each in found],
                "ways": [each.way for each in found],
            }
        yield row


def write_file(source: Path, target: Path) -> Path:
    """Write the file of problems with demonstrations, whole or not at all; returns its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(encoding="utf-8") as lines:
        found = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(lines, seed=0)]
    write_text(target, "".join(found))
    return target
