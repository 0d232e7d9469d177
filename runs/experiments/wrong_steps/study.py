"""Right answers by wrong steps.

How many pass an answer-only filter, what training on them does, what a step filter and a critic
save.

`python -m runs.experiments.wrong_steps.real` counts them in real models' GSM8K solutions (the
folder that OUROLOOP_DATA names) and writes real.csv.
"""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import PRACTISED, measure

# Samples in every training set: a stricter filter must not mean less to learn from.
SIZE = 200

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 4,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic", "families": list(PRACTISED)},
    "sampling": {
        "problems_per_round": 400,
        "samples_per_problem": 4,
        "temperatures": [1.0],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "size": SIZE},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 120,
        "family_problems": 100,
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

ARMS: dict[str, dict[str, Any]] = {
    # The answer alone; with the truth about steps; with the model's own critique.
    "gold": {},
    "gold_steps": {"filters": {"steps": True}},
    "gold_critic": {"refine": {"critique": True}, "filters": {"critic": True}},
}

STUDY = Study(
    "wrong_steps",
    BASE,
    ARMS,
    measure=measure,
    quick={
        "rounds": 2,
        "sampling": {"problems_per_round": 300},
        "dataset": {"size": 150},
        "probe": {"problems": 60, "family_problems": 60},
    },
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Right answers by wrong steps",
    paper=(
        "The answer-only filter of STaR, Zelikman et al. 2022, arXiv 2203.14465, and of RFT, Yuan"
        " et al. 2023, arXiv 2308.01825"
    ),
    claim=(
        "A filter that looks at the final answer alone lets right answers by wrong steps through;"
        " trained on, they stay."
    ),
    published=(
        (
            "No published number is re-run. STaR learns from all rationales that led to a right"
            " answer, RFT from one per distinct list of calculations;"
        ),
        (
            "the question here is how many of those hold a wrong step, what learning them does, and"
            " which filter saves what."
        ),
    ),
    differs=(
        "in the small world the step filter knows the truth, so that it catches all by"
        " construction;"
        " real text has only a check of each written calculation, whose catch stands beside it."
        " The practised families are those where this base errs most: missing addends and"
        " three-digit sums, at T = 1. In the real solutions only written calculations are judged:"
        " the models had a calculator for annotated ones, and wrong reasoning with right"
        " calculations is not seen. That calculator's floating-point noise is not counted. That the"
        " pool is asked too was added after the quick run had been seen."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
    seeds=(0, 1, 2, 3, 4),
)
