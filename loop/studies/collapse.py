"""Arms of self-training on the arithmetic world: ways to collapse, healthy ways, fixed shares of real data, and the guarded one.

Every arm draws the same problems and as many samples from the same base, unsteered unless it says `guarded`; the panel's decisions are written
down in all of them, so that its delays and false alarms can be read off real runs.
"""

from __future__ import annotations

import math
from typing import Any

from loop.studies import planted, rounds
from loop.studies.study import Results, Study
from loop.studies.tables import Columns, Rows, arm_table, kept, last

NO_GOLD: dict[str, Any] = {"gold": False, "steps": False}

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 12,
    "task": {"kind": "arithmetic"},
    "sampling": {"problems_per_round": 200, "samples_per_problem": 4, "temperatures": [0.7], "max_tokens": 80},
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "anchor_share": 0.0},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 150, "family_problems": 8, "samples": 16, "anchor_samples": 48, "pass_at": 8, "majority": 16, "critiques": 0, "texts": 32,
        "canaries": 0,
    },
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

CRITIC: dict[str, Any] = {
    "refine": {"critique": True, "revisions": 0, "max_critique_tokens": 96},
    "filters": {**NO_GOLD, "critic": True},
    "probe": {"critiques": 60, "canaries": 20},
}

ARMS: dict[str, dict[str, Any]] = {
    "replace": {"filters": NO_GOLD, "sampling": {"temperatures": [1.0]}},
    "sharpen": {"filters": NO_GOLD},
    "answer_filtered": {},
    "critic_filtered": CRITIC,
    "healthy": {"sampling": {"temperatures": [1.0]}, "filters": {"steps": True, "duplicates": "calculations"}, "dataset": {"anchor_share": 0.3}},
    "shortcut": {"model": "$planted", "task": {"loophole": True}, "filters": {"gold": False, "steps": True}, "sampling": {"temperatures": [1.0]}},
    "fixed_10": {"dataset": {"anchor_share": 0.1}},
    "fixed_30": {"dataset": {"anchor_share": 0.3}},
    "fixed_50": {"dataset": {"anchor_share": 0.5}},
    "guarded": {"monitors": {"guard": True}},
}
"""Arm -> what it changes in `BASE`. `shortcut`: a verifier with a hole, and a base that has found it in a few of its samples (`planted.py`)."""

STUDY = Study("collapse", BASE, ARMS, made={"planted": planted.plant}, quick={"rounds": 4})

FALL = 0.02
"""Points below the best so far that count as the fall that a warning should come before."""
STRUCTURES = ("sum3", "missing", "multibuy")
"""Families that the loop never practises on, and that not every strategy maps onto."""


def structures(run: Rows) -> float:
    """pass@8 in the last round on `STRUCTURES`: what is left for problems that the dominant pattern cannot map."""
    return sum(float(run[-1][f"{family}_pass_k"]) for family in STRUCTURES) / len(STRUCTURES)


COLUMNS: Columns = {
    "rounds": (lambda run: float(len(run) - 1), ""),
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "maj@16": (last("maj_k"), "%"),
    "other structures, pass@8": (structures, "%"),
    "DCP kept": (kept("dcp"), "%"),
    "strategies alive": (last("alive"), ""),
    "rarest share": (lambda run: min(float(run[-1][f"share_{s}"]) for s in rounds.STRATEGIES), "%"),
    "over-confidence": (last("overconfidence"), "%"),
}


def page(results: Results) -> str:
    """The arms' table, then the decisions of every run, as Markdown."""
    lines = [*arm_table(results, COLUMNS), ""]
    lines += ["| arm | seed | first WATCH or HALT | first HALT | pass@1 seen 2 points below its best | modes named |", "|---" * 6 + "|"]
    for arm, runs in results.items():
        for seed, run in runs.items():
            modes = "".join(sorted({str(row["mode"]) for row in run if row["mode"]})) or "-"
            when = [decided(run, "reinject", "rollback", "halt"), decided(run, "rollback", "halt"), fallen(run)]
            lines.append(f"| {arm} | {seed} | {' | '.join('-' if math.isnan(w) else f'{w:.0f}' for w in when)} | {modes} |")
    return "\n".join(lines) + "\n"


def decided(run: Rows, *actions: str) -> float:
    """The first round with one of these decisions; NaN if there is none."""
    return next((float(row["round"]) for row in run if row["action"] in actions), math.nan)


def fallen(run: Rows) -> float:
    """The first round in which pass@1 was seen `FALL` below its best so far, NaN if none was. Seen: both are estimates."""
    best = -math.inf
    for row in run:
        if float(row["pass_1"]) < best - FALL:
            return float(row["round"])
        best = max(best, float(row["pass_1"]))
    return math.nan
