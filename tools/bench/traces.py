"""Made traces for the monitors: templated solutions in varying words, two rounds of a file each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAMPLES = 8
NAMES = ("Mara", "Jonas", "Priya", "Tariq", "Elin", "Koji", "Rosa", "Ben", "Ada", "Luis")
THINGS = ("marbles", "stickers", "apples", "pencils", "coins", "shells", "books", "cards")
OPENINGS = (
    "Let me work this out.",
    "First, I look at what is given.",
    "We can solve this step by step.",
    "To find the answer, start with the bags.",
    "Here is my reasoning:",
    "Perhaps I should count the bags first.",
)
PRODUCTS = (
    "{b} bags with {c} {t} each make {b} * {c} = {p} {t}.",
    "Each bag holds {c}, so {b} bags hold {b} * {c} = {p}.",
    "The bags contain {p} {t}, because {c} * {b} = {p}.",
)
SUMS = (
    "Together with the {a} from before that is {a} + {p} = {s}.",
    "Adding the {a} {t} that {n} had: {p} + {a} = {s}.",
    "{n} had {a}, so now there are {a} + {p} = {s} {t}.",
)
ENDINGS = ("The answer is {s}.", "Therefore, {n} has {s} {t} now. The answer is {s}.", "#### {s}")


def rows(num_problems: int, round: int) -> Iterator[dict[str, Any]]:
    """`SAMPLES` samples of every problem, with the fields that a loop's own rounds have."""
    rng = random.Random(f"round {round}")
    for index in range(num_problems):
        of_problem = random.Random(index)
        a, b, c = (of_problem.randint(2, most) for most in (90, 9, 30))
        name, thing = of_problem.choice(NAMES), of_problem.choice(THINGS)
        hard = b > 6
        for _ in range(SAMPLES):
            is_right = rng.random() > (0.5 if hard else 0.25)
            total = a + b * c + (0 if is_right else rng.choice((-2, -1, 1, 2, 10)))
            said = {"a": a, "b": b, "c": c, "p": b * c, "s": total, "n": name, "t": thing}
            way, steps = _steps(rng, said)
            text = " ".join((rng.choice(OPENINGS), steps, rng.choice(ENDINGS).format(**said)))
            yield {
                "problem": f"p{index}",
                "family": "bags" if index % 3 else "sets",
                "slice": "tail" if hard else "typical",
                "text": text,
                "correct": is_right,
                "strategy": way,
                "answer": str(total),
                "num_tokens": len(text) // 3,
                "nll": round_(rng.random()),
                "truncated": False,
            }


def round_(number: float) -> float:
    """As a loop writes its numbers."""
    return float(f"{number:.4f}")


def _steps(rng: random.Random, said: dict[str, Any]) -> tuple[str, str]:
    """(strategy, steps): a product and a sum, or one bag after the other."""
    if rng.random() < 0.7:
        product = rng.randrange(len(PRODUCTS))
        steps = f"{PRODUCTS[product]} {rng.choice(SUMS)}".format(**said)
        return f"product {product}", steps
    a, c = said["a"], said["c"]
    added = [f"After bag {i + 1}: {a + i * c} + {c} = {a + (i + 1) * c}." for i in range(said["b"])]
    return "bag by bag", f"Start with {a}. {' '.join(added)}"


def write(folder: Path, num_traces: int) -> list[Path]:
    """Two rounds, `num_traces` in all."""
    paths = [folder / f"round{round}.jsonl" for round in (0, 1)]
    for round, path in enumerate(paths):
        with path.open("w", encoding="utf-8") as file:
            for row in rows(num_traces // 2 // SAMPLES, round):
                file.write(json.dumps(row) + "\n")
    return paths
