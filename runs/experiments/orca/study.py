"""Explanation tuning (Orca, 2306.02707).

A teacher answers under system prompts, a student learns from each signal and from their mix.

The small teacher knows no system prompts, so it is taught them first (`teach`): its own trace
without one, the same when it is asked to explain, the calculations alone step by step, the final
answer alone.
"""

from __future__ import annotations

from typing import Any

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import ask_under_each, measure
from .systems import EXPLAIN, FORMS, STEPS, teach

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "teachers": ["$teacher"],
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic", "families": list(world.FAMILIES)},
    "sampling": {
        "student": False,
        "problems_per_round": 1200,
        "samples_per_problem": 4,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"size": 2400},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 100,
        "family_problems": 60,
        "samples": 2,
        "baseline_samples": 2,
        "pass_at": 2,
        "majority": 2,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

# Arm -> what it changes in `BASE`.
#
# Every student is asked without a system prompt: those of one signal are taught without one, and
# the mix holds
#
# the empty one, as Orca's does. `mix_erased` learns what `mix` does and never sees a system
# prompt (Orca 2, Mitra et al. 2311.11045); `mix_unfiltered` learns from wrong answers too, as
# Orca did: under `Answer only.` the teacher is mostly wrong, and a filter leaves little of that.
ARMS: dict[str, dict[str, Any]] = {
    # Question and answer alone, as in the published control.
    "plain": {"dataset": {"target": "answer"}},
    "steps": {"sampling": {"systems": [STEPS]}, "dataset": {"erase_systems": True}},
    "explanation": {"sampling": {"systems": [EXPLAIN]}, "dataset": {"erase_systems": True}},
    # All four signals: with their system prompts, without them, and without the filter.
    "mix": {"sampling": {"systems": list(FORMS)}},
    "mix_erased": {"sampling": {"systems": list(FORMS)}, "dataset": {"erase_systems": True}},
    "mix_unfiltered": {"sampling": {"systems": list(FORMS)}, "filters": {"gold": False}},
}

STUDY = Study(
    "orca",
    BASE,
    ARMS,
    made={"teacher": teach},
    measure=measure,
    extra=ask_under_each,
    quick={
        "sampling": {"problems_per_round": 500},
        "dataset": {"size": 1000},
        "probe": {"problems": 60, "family_problems": 30},
    },
    quick_arms=("plain", "mix"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Explanation tuning: signals of a teacher under system prompts",
    paper="Mukherjee et al. 2023 (Orca), arXiv 2306.02707",
    claim=(
        "A student that learns explanations under varied system prompts reasons far better than one"
        " that learns plain question-answer pairs."
    ),
    published=(
        "| zero-shot (Orca-13B against Vicuna-13B, from the abstract) | relative gain |",
        "|---|---|",
        "| BigBench-Hard | more than 100 % |",
        "| AGIEval | 42 % |",
    ),
    differs=(
        "the base here explains by itself, so plain pairs also unlearn what it could, and the ratio"
        " says more about them than about the mix: its gain over the base stands beside it. The"
        " teacher has first been taught its system prompts. Only right answers are kept (but in"
        " `mix_unfiltered`), which leaves little of `Answer only.`: there the teacher is mostly"
        " wrong. Plain pairs are the final answers of the same teacher's right explanations, where"
        " Vicuna learnt from conversations. As in the paper the mix holds an empty system prompt,"
        " and every student is asked without one."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
