"""Sums of three and of four digits, as problem files."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.folder.storage import write_text

# Sums of three digits, of which the teacher solves a third at T = 1.
#
# And of four, which neither model has ever seen.
REACHED, BEYOND = "sum3", "sum4"

DIGITS = {REACHED: 3, BEYOND: 4}

# To practise on, by family; the loop holds some of them back.
PROBLEMS = {REACHED: 330, BEYOND: 270}


def sums(family: str, split: str, num: int) -> list[dict[str, Any]]:
    """Rows of a problem file: `num` different sums of a family, each with a right trace.

    Their numbers belong to `split`.
    """
    digits, rng = DIGITS[family], random.Random(f"ceiling/{family}/{split}")
    found: dict[tuple[int, int], dict[str, Any]] = {}
    while len(found) < num:
        a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        # a + b and b + a are one problem; numbers of another split are held out.
        if world.split_of(family, a, b) != split or (a, b) in found or (b, a) in found:
            continue
        item = world.problem(
            REACHED, a, b, rng
        )  # the wording and the strategies of three digits serve any number of them
        solution = world.demonstrate(item, world.pick_strategy(REACHED, a, rng))
        found[a, b] = {
            "id": f"{family}-{split}-{len(found)}",
            "question": item.question,
            "answer": item.answer,
            "family": family,
            "solution": solution,
        }
    return list(found.values())


def problem_file(split: str, sizes: Mapping[str, int]) -> Any:
    """What `Study.made` wants: writes the sums of a split into a folder.

    `sizes` is the number of problems per family. The file is the same every time.
    """

    def make(folder: Path) -> Path:
        path = folder / f"{split}.jsonl"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            lines = [
                json.dumps(row) for family, num in sizes.items() for row in sums(family, split, num)
            ]
            write_text(path, "\n".join(lines) + "\n")
        return path

    return make
