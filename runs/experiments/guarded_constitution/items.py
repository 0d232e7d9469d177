"""Texts of known truth that the small world's frozen judge is audited with.

Drafts as the assistant writes them, some with a few principles seen to already, about numbers that
neither the assistant was made with nor any run asks about; whether a text deserves approval under a
principle is what the principle's program says. `arithmetic_judge_items.jsonl` beside the recipes
was written by `python -m runs.experiments.guarded_constitution.items FILE`, run at the top of the
repository.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from ouroloop.evals.worlds.arithmetic import principles, world

from ..constitutional import assistant

FAMILY = "sum2"
NUM_EACH = 25
"""Items of each principle that deserve approval, and as many that do not."""


def items(rng: random.Random) -> list[dict[str, Any]]:
    """Equally many right and wrong texts of each principle."""
    found = []
    for name in principles.PRINCIPLES:
        wanted = {True: NUM_EACH, False: NUM_EACH}
        while any(wanted.values()):
            problem = world.draw(FAMILY, "reserve", rng)
            text = assistant.under_discussion(problem, rng)
            approve = not principles.violations(problem, text)[name]
            if wanted[approve]:
                wanted[approve] -= 1
                item = {
                    "question": problem.question,
                    "text": text,
                    "principle": name,
                    "approve": approve,
                }
                found.append(item)
    return found


if __name__ == "__main__":
    lines = [json.dumps(item) for item in items(random.Random("judge"))]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
