"""Unfiltered traces against answers alone, and sums longer than those trained on."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from . import longer
from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import table

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic"},
    "sampling": {
        "problems_per_round": 800,
        "samples_per_problem": 1,
        "temperatures": [1.0],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    # The format alone is asked for where nothing is filtered: what has no answer teaches none.
    "filters": {"gold": False, "duplicates": "none", "per_problem": None},
    "sft": {
        "learning_rate": 2.0e-3,
        "warmup_steps": 20,
        "max_steps": 150,
        "per_device_train_batch_size": 32,
    },
    "probe": {
        "problems": 80,
        "family_problems": 8,
        "samples": 4,
        "baseline_samples": 4,
        "pass_at": 4,
        "majority": 4,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}

# Written solutions instead of samples, of the same problems.
GOLD: dict[str, Any] = {"sampling": {"student": False}, "dataset": {"gold": True}}

LONG = {"max_steps": 900}

# All but the long ones take as many optimizer steps on examples of the same 800 questions.
ARMS: dict[str, dict[str, Any]] = {
    "gold_traces": GOLD,
    "answers": {**GOLD, "dataset": {"gold": True, "target": "answer"}},
    "filtered": {"filters": {"gold": True}},
    "unfiltered": {},
    # Hotter drafts are more often wrong: a worse teacher of the same kind.
    "unfiltered_hot": {"sampling": {"temperatures": [1.4]}},
    "filtered_hot": {"sampling": {"temperatures": [1.4]}, "filters": {"gold": True}},
    # Six times the steps: answers alone are learnt late.
    "answers_long": {**GOLD, "dataset": {"gold": True, "target": "answer"}, "sft": LONG},
    "unfiltered_long": {"sft": LONG},
    "unfiltered_hot_long": {"sampling": {"temperatures": [1.4]}, "sft": LONG},
    # Practises three digits too: what it is to have been trained on longer traces.
    "filtered_longer": {
        "filters": {"gold": True},
        "task": {"families": ["sum2", "sum3"]},
        "sampling": {"max_tokens": 110},
    },
}

STUDY = Study(
    "unfiltered_traces",
    BASE,
    ARMS,
    measure=table,
    extra=longer.ask,
    quick={"probe": {"problems": 40}},
    quick_arms=("gold_traces", "answers", "unfiltered_hot"),
)

EXPERIMENT = Experiment(
    STUDY,
    title="Unfiltered traces, answers alone, and longer sums",
    claim=(
        "Training on unfiltered traces leaves a worse model than training on answers alone once"
        " both are practised enough, a far better one before, and traces longer than those trained"
        " on degrade."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
    notes=notes,
)
