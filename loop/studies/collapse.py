"""Arms of self-training on the arithmetic world: ways to collapse, healthy ways, fixed shares of real data, and the guarded one.

Every arm draws the same problems and as many samples from the same base, unsteered unless it says `guarded`; the panel's decisions are written
down in all of them, so that its delays and false alarms can be read off real runs.
"""

from __future__ import annotations

from typing import Any

ROUNDS = 12
NO_GOLD: dict[str, Any] = {"gold": False, "steps": False}

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": ROUNDS,
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
    "shortcut": {"model": "planted", "task": {"loophole": True}, "filters": {"gold": False, "steps": True}, "sampling": {"temperatures": [1.0]}},
    "fixed_10": {"dataset": {"anchor_share": 0.1}},
    "fixed_30": {"dataset": {"anchor_share": 0.3}},
    "fixed_50": {"dataset": {"anchor_share": 0.5}},
    "guarded": {"monitors": {"guard": True}},
}
"""Arm -> what it changes in `BASE`. `shortcut`: a verifier with a hole, and a base that has found it in a few of its samples (`planted.py`)."""


def recipe(arm: str, seed: int, rounds: int = ROUNDS, planted: str = "") -> dict[str, Any]:
    """The recipe of one run, as the keys of a recipe file."""
    merged = merge(BASE, ARMS[arm])
    if merged["model"] == "planted":
        merged["model"] = planted
    return {**merged, "name": f"{arm}-{seed}", "seed": seed, "rounds": rounds}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, section by section."""
    out = dict(base)
    for key, value in changes.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out
