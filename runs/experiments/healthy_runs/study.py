"""Sixty healthy runs on the arithmetic world: how often the rule halts a loop that only gains.

Six recipes that are healthy by their design, ten seeds each, unsteered: decisions are written down
and not carried out. A run counts where its own readings show that it lost nothing against round 0.
About four minutes of a core a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study, merge
from ouroloop.loop.experiments.tables import Columns, Rows, alarmed, kept, last
from ouroloop.monitors.estimators.stats import binomial
from ouroloop.monitors.names import Action

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 8,
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
    "dataset": {"policy": "replace", "replay_fraction": 0.3},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 120,
        "family_problems": 8,
        "samples": 8,
        "baseline_samples": 32,
        "critiques": 0,
        "audit_items": 0,
    },
    # Both default baselines: a run that was better in between is to be spared by HALT as well.
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

# Drafts as diverse as the model, alike ones dropped, three tenths of real data.
HEALTHY: dict[str, Any] = {
    "sampling": {"temperatures": [1.0]},
    "filters": {"steps": True, "duplicates": "calculations"},
}

ARMS: dict[str, dict[str, Any]] = {
    "healthy": HEALTHY,
    "slower": merge(HEALTHY, {"sft": {"learning_rate": 2.5e-4}}),
    "faster": merge(HEALTHY, {"sft": {"learning_rate": 1.0e-3}}),
    "more_data": merge(HEALTHY, {"sampling": {"problems_per_round": 400}}),
    # Sharpened by their filter, and kept up by real data.
    "fixed_30": {},
    "fixed_50": {"dataset": {"replay_fraction": 0.5}},
}

# As many as a 95 % limit of 5 % needs when none is halted.
NEEDED = 59
LOST = {"pass_1": 0.01, "tail_pass_k": 0.01}
"""Readings whose fall below round 0 by more than this makes a run no healthy one."""
DCP_LOST = 0.10


def lost(run: Rows) -> bool:
    """Whether some round's own readings lie beyond a tolerance below round 0's."""
    falls = [
        float(run[0][name]) - float(row[name]) > tolerated
        for row in run
        for name, tolerated in LOST.items()
    ]
    least = min(float(row["dcp"]) for row in run)
    return any(falls) or least < (1 - DCP_LOST) * float(run[0]["dcp"])


def is_halted(run: Rows) -> bool:
    """Whether HALT's limit was reached."""
    return not math.isnan(alarmed(run, Action.ROLLBACK, Action.HALT))


def goals(results: Results) -> Sequence[Goal]:
    """None is halted, of enough of them."""
    runs = [run for arm in results.values() for run in arm.values() if not lost(run)]
    spared = sum(not is_halted(run) for run in runs)
    warned = sum(not math.isnan(alarmed(run)) for run in runs)
    met = spared == len(runs) if len(runs) >= NEEDED else None
    watch = binomial(warned, len(runs))
    return [
        Goal(
            f"healthy runs that were not halted (all, of {NEEDED} or more)",
            binomial(spared, len(runs)),
            met,
            "%",
        ),
        Goal(
            "healthy runs with any warning (at most 20 % of them)",
            watch,
            watch.value <= 0.20 if runs else None,
            "%",
        ),
    ]


COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "DCP kept": (kept("dcp"), "%"),
    "the tail's pass@k": (last("tail_pass_k"), "%"),
    "lost something": (lambda run: float(lost(run)), "%"),
    "warned": (lambda run: float(not math.isnan(alarmed(run))), "%"),
    "halted": (lambda run: float(is_halted(run)), "%"),
}

EXPERIMENT = Experiment(
    Study("healthy_runs", BASE, ARMS, quick={"rounds": 2}),
    title="Healthy runs, and how often they are halted",
    claim="Of sixty healthy runs by six recipes the rule halts none.",
    columns=COLUMNS,
    goals=goals,
    seeds=tuple(range(10)),
)
