"""The logs of a pilot, a small language model in four self-training loops, under the rule: what it says, and when.

The logs hold numbers per problem, not samples: how often 16 samples were right, and their share of distinct-correct pairs. The first are right
or wrong samples in any order; the second is one score in [0, 1] of all 16 samples at once, so that the largest bets win less on it than on
pairs. Round 0, with 16 samples a problem like every other, is the anchor: its own noise costs far more than one of 64 would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitors import evidence
from monitors.evidence import Stream
from monitors.validation.cells import Cells

DATA = Path(os.environ.get("OUROLOOP_DATA", Path("..") / "shared" / "data"))
LOOPS = ("replace", "sharpen", "verify", "healthy")
SHARES = (1.0, 0.5, 0.25)
NUM_SAMPLES = 16
ALPHA, HORIZON = 0.05, 12
STREAMS = {"id_acc_v": (0.01, False), "id_dcp_v": (0.10, True), "tail_acc_v": (0.01, False), "tail_dcp_v": (0.10, True)}
"""Name in the log -> tolerance, and whether it is a share of the anchor's."""


@dataclass(frozen=True)
class Alarm:
    """When a loop is halted at a share of every tolerance, 0 for never, and by what."""

    loop: str
    anchor: int
    share: float
    alarm: int
    driver: str
    log_e: float


def read(loop: str) -> list[dict[str, Any]]:
    """A loop's rounds, oldest first."""
    entries: list[dict[str, Any]] = json.loads((DATA / "pilot" / f"lm_{loop}_0.json").read_text(encoding="utf-8"))
    return entries


def stream(name: str, now: Mapping[str, Any], anchor: Mapping[str, Any], following: Mapping[str, Any]) -> Stream:
    """One quantity of a round. The anchor's noise: that of counted samples; of pairs half of the squared change to the round that follows."""
    tolerance, relative = STREAMS[name]
    anchor_P, now_P, next_P = (np.array(entry[name], dtype=float) for entry in (anchor, now, following))
    if name.endswith("acc_v"):
        right_P = np.rint(NUM_SAMPLES * now_P)
        block_PRM = (np.arange(NUM_SAMPLES) < right_P[:, None])[:, None, :].astype(float)
        variance_P = anchor_P * (1 - anchor_P) / (NUM_SAMPLES - 1)
    else:
        block_PRM = now_P[:, None, None]
        variance_P = (next_P - anchor_P) ** 2 / 2
    return Stream(name.removesuffix("_v"), anchor_P, block_PRM, float(np.sqrt(variance_P.sum())) / len(anchor_P), tolerance, relative)


def follow(entries: Sequence[Mapping[str, Any]], loop: str, share: float, anchor: int = 0) -> Alarm:
    """The rule on one loop's log, from the round after the anchor."""
    z = evidence.anchor_z(ALPHA, len(STREAMS))
    rounds: list[evidence.Factors] = []
    weight = evidence.Weight(0.0, {"none": 0.0}, 0)
    for number in range(anchor + 1, len(entries)):
        streams = [stream(name, entries[number], entries[anchor], entries[anchor + 1]) for name in STREAMS]
        rounds.append({s.name: evidence.loss_factors(s, share, z).tolist() for s in streams})
        weight = evidence.weigh(rounds, HORIZON)
        if weight.log_e >= evidence.log_limit(ALPHA):
            return Alarm(loop, anchor, share, number, weight.driver, round(weight.log_e, 2))
    return Alarm(loop, anchor, share, 0, "", round(weight.log_e, 2))


def one(loop: str, anchor: int, share: float) -> Alarm:
    """A line of the table."""
    return follow(read(loop), loop, share, anchor)


def cells(out: Path) -> Cells:
    """All loops against round 0, and the two slow ones against round 2."""
    lines = [(loop, 0, share) for loop in LOOPS for share in SHARES] + [(loop, 2, share) for loop in ("verify", "healthy") for share in SHARES]
    return {out / "pilot.csv": (one, lines)}
