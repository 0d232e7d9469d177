"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ouroloop.loop.views.reader import read_run

FAMILIES = ("sum2", "sum3", "missing", "multibuy")


def measure(path: Path) -> list[dict[str, Any]]:
    """One row per round: greedy accuracy by family, and how much was trained on.

    Over the families, each counts alike.
    """
    rows = []
    for found in read_run(path).rounds:
        greedy = {family: found.score("greedy", family)[0] for family in FAMILIES}
        # Completion tokens: a trace has seven times as many as an answer, hence `answer_long`.
        learnt = found.examples["completion_token_ids"] if len(found.examples) else []
        rows.append(
            {
                "round": found.number,
                "accuracy": sum(greedy.values()) / len(greedy),
                **{f"{family}_greedy": score for family, score in greedy.items()},
                "examples": len(learnt),
                "completion_tokens": sum(len(ids) for ids in learnt),
            }
        )
    return rows
