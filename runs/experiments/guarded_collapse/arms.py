"""The arms: each a change of one recipe."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.study import SMALL_ENGINE, merge

NO_GOLD: dict[str, Any] = {"gold": False, "steps": False}

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 12,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic"},
    "sampling": {
        "problems_per_round": 200,
        "samples_per_problem": 4,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "replay_fraction": 0.0},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 150,
        "family_problems": 8,
        "samples": 16,
        "baseline_samples": 48,
        "pass_at": 8,
        "majority": 16,
        "critiques": 0,
        "texts": 32,
        "audit_items": 0,
    },
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

CRITIC: dict[str, Any] = {
    "refine": {"critique": True, "revisions": 0, "max_critique_tokens": 96},
    "filters": {**NO_GOLD, "critic": True},
    "probe": {"critiques": 60, "audit_items": 20},
}

# Five ways to collapse and a healthy one.
#
# `shortcut`: a verifier with a hole, and a base that found it in a few of its samples
# (`planted.py`).
REGIMES: dict[str, dict[str, Any]] = {
    "replace": {"filters": NO_GOLD, "sampling": {"temperatures": [1.0]}},
    "sharpen": {"filters": NO_GOLD},
    # The base itself: gold answers filter, T = 0.7.
    "answer_filtered": {},
    "critic_filtered": CRITIC,
    "healthy": {
        "sampling": {"temperatures": [1.0]},
        "filters": {"steps": True, "duplicates": "calculations"},
        "dataset": {"replay_fraction": 0.3},
    },
    "shortcut": {
        "model": "$planted",
        "task": {"loophole": True},
        "filters": {"gold": False, "steps": True},
        "sampling": {"temperatures": [1.0]},
    },
}

# One that can see a drift of two points within a round or two.
LARGER_PROBE_SET: dict[str, Any] = {
    "probe": {"problems": 500, "baseline_samples": 128},
    "monitors": {"baselines": [0]},
}

LARGER = {f"{arm}_500": merge(keys, LARGER_PROBE_SET) for arm, keys in REGIMES.items()}

GUARD: dict[str, Any] = {"monitors": {"guard": True}}

# Arm -> what it changes in `BASE`. The `REGIMES`, and again under a larger probe set (`_500`).
#
# `guarded_archive`: the guard replays what was lost, and no real data besides.
# `guarded_30`: a standing share of real data from the first round. `guarded_no_blend`: without
# the last remedy, a baseline's weights in the start. `guarded_teachers`: with one that is off
# unless asked for, earlier checkpoints that draft too.
ARMS: dict[str, dict[str, Any]] = {
    **REGIMES,
    **LARGER,
    # What an adaptive share of real data has to beat.
    "fixed_10": {"dataset": {"replay_fraction": 0.1}},
    "fixed_30": {"dataset": {"replay_fraction": 0.3}},
    "fixed_50": {"dataset": {"replay_fraction": 0.5}},
    # The guard as it is by default, and with one thing changed each.
    "guarded": GUARD,
    "guarded_archive": {**GUARD, "interventions": {"demonstrations": 0.0}},
    "guarded_30": {**GUARD, "dataset": {"replay_fraction": 0.3}},
    "guarded_no_blend": {**GUARD, "interventions": {"blend": 0.0}},
    "guarded_teachers": {**GUARD, "interventions": {"teachers": 2}},
}
