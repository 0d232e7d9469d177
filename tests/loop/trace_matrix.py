"""Every field of docs/traces.md removed in turn x 1, 2, 3 samples per problem x all right.

All wrong, unscored: the rows of one round.
"""

from __future__ import annotations

import itertools
from typing import Any

from ouroloop.monitors.traces.rows import FIELDS

REMOVED = (None, *(name for name in FIELDS if name != "problem"))
NUM_SAMPLES = (1, 2, 3)
VERDICTS = {"all right": True, "all wrong": False, "unscored": None}
CASES = list(itertools.product(REMOVED, NUM_SAMPLES, VERDICTS))
FAMILIES = ("sum", "sum", "sum", "copy", "copy")


def rows(removed: str | None, num_samples: int, verdict: str, number: int) -> list[dict[str, Any]]:
    """A round of five problems, three of them in the main family and one of these in the tail.

    The rows have every field but one.
    """
    out = []
    for problem, family in enumerate(FAMILIES):
        for sample in range(num_samples):
            total = problem + 7
            text = (
                f"{problem} + 7 = {total}. "
                if sample % 2
                else f"{problem} + 10 = {problem + 10}. {problem + 10} - 3 = {total}. "
            )
            row = {
                "problem": f"p{problem}",
                "text": f"{text}The answer is {total}.",
                "correct": VERDICTS[verdict],
                "strategy": f"way {sample % 2}",
                "answer": total,
                "question": f"What is {problem} + 7?",
                "family": family,
                "slice": "tail" if problem == 0 else "typical",
                "valid": True,
                "logprobs": [-0.1, -0.2 - 0.01 * sample],
                "nll": 0.15,
                "num_tokens": 2,
                "truncated": False,
                "cluster": f"cluster {sample % 2}",
                "approved": {"harmless": True, "helpful": sample % 2 == 0},
                "kept": True,
                "round": number,
            }
            out.append({name: value for name, value in row.items() if name != removed})
    return out
