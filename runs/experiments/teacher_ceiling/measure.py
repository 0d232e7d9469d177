"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.loop.store import read_json
from ouroloop.loop.views.reader import RoundData, read_run

from .problems import DIGITS


def table(path: Path) -> list[dict[str, Any]]:
    """A line per round: accuracy and problems solved by family.

    What the teacher's samples yielded, whether training took place.
    """
    return [row(found) for found in read_run(path).rounds]


def row(found: RoundData) -> dict[str, Any]:
    """A round. warned: the preflight check reported failing supply before training.

    NaN where nothing was sampled.
    """
    verdicts = found.verdicts
    preflight = (
        read_json(found.path / "preflight.json")
        if (found.path / "preflight.json").exists()
        else {"reasons": []}
    )
    out: dict[str, Any] = {"round": found.number, "action": found.action}
    for family in DIGITS:
        mine = found.probe[(found.probe["family"] == family) & (found.probe["kind"] == "sample")]
        solved = mine.groupby("problem")["correct"].max()
        asked = (
            verdicts[verdicts["problem_id"].str.startswith(family)] if len(verdicts) else verdicts
        )
        out |= {
            f"{family}_pass_1": found.score("pass@1", family)[0],
            f"{family}_greedy": found.score("greedy", family)[0],
            f"{family}_pass_k": found.score("pass@k", family)[0],
            f"{family}_solved": float(solved.sum()),
            f"{family}_problems": float(len(solved)),
            f"{family}_sampled": float(len(asked)),
            f"{family}_right": float(sum(map(bool, asked["correct"]))) if len(asked) else math.nan,
        }
    return {
        **out,
        "examples": float(len(found.examples)),
        "warned": (
            float(
                any(
                    "starves" in reason or reason == "nothing was kept"
                    for reason in preflight["reasons"]
                )
            )
            if len(verdicts)
            else math.nan
        ),
        "trained": (
            float(found.train.get("status", "skipped") != "skipped") if found.number else math.nan
        ),
    }
