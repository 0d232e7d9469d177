"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.loop.folder.store import read_json
from ouroloop.loop.folder.tables import from_json
from ouroloop.loop.rows import Preflight
from ouroloop.loop.views.reader import RoundData, read_run

from .problems import DIGITS


def table(path: Path) -> list[dict[str, Any]]:
    """A line per round: accuracy and problems solved by family, and the yield of the samples.

    Also whether a warning came, and whether training took place.
    """
    return [row(found) for found in read_run(path).rounds]


def row(found: RoundData) -> dict[str, Any]:
    """One round.

    warned: the preflight check found too few kept samples before training; NaN where nothing was
    sampled.
    """
    verdicts = found.verdicts
    out: dict[str, Any] = {"round": found.number, "action": found.action}
    for family in DIGITS:
        mine = found.probe[(found.probe["family"] == family) & (found.probe["kind"] == "sample")]
        # Solved at all: any of the probe's samples is right.
        solved = mine.groupby("problem")["correct"].max()
        asked = verdicts
        if len(verdicts):
            asked = verdicts[verdicts["problem_id"].str.startswith(family)]
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
        "warned": warned(found.path) if len(verdicts) else math.nan,
        "trained": trained(found) if found.number else math.nan,
    }


def warned(folder: Path) -> float:
    """Whether the preflight check of a round's folder found that its training set starves."""
    path = folder / "preflight.json"
    return float(path.exists() and from_json(Preflight, read_json(path), path).starved)


def trained(found: RoundData) -> float:
    """Whether the round trained."""
    return float(found.train.get("status", "skipped") != "skipped")
