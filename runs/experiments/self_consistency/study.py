"""Self-consistency (2203.11171).

A vote over forty sampled paths, what self-training leaves of its gain, and its vote share as a
confidence.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import table

# What the loop practises on: where single samples leave room.
TRAINED = ("sum3", "missing", "multibuy")

STUDY = Study(
    "self_consistency",
    {
        "model": "arithmetic/base",
        "rounds": 2,
        "engine": SMALL_ENGINE,
        "task": {"kind": "arithmetic", "families": list(TRAINED)},
        "sampling": {
            "problems_per_round": 300,
            "samples_per_problem": 8,
            "temperatures": [0.7],
            "max_tokens": 96,
        },
        "refine": {"critique": False, "revisions": 0},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": 4},
        "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 2, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 60,
            "family_problems": 32,
            # The paper's forty paths at its temperature.
            "samples": 40,
            "baseline_samples": 40,
            "temperature": 0.7,
            "pass_at": 8,
            "majority": 40,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        "gold_filtered": {},
        # Without gold answers: kept is what at least half of a problem's samples agree on.
        "majority_voted": {"filters": {"gold": False, "agreement": 0.5}},
    },
    measure=table,
    quick={"rounds": 1, "probe": {"problems": 60, "family_problems": 16}},
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Self-consistency, and what self-training leaves of it",
    paper=(
        "Wang et al. 2022, arXiv 2203.11171; trained on voted answers: Huang et al. 2022, arXiv"
        " 2210.11610"
    ),
    claim=(
        "The most frequent answer of 40 sampled paths is right more often than the greedy one, and"
        " its share of the vote says how often."
    ),
    published=(
        "| PaLM 540B on GSM8K | accuracy |",
        "|---|---|",
        "| greedy chain of thought | 56.5 % |",
        "| self-consistency, 40 paths | 74.4 % |",
        "| the same after self-training on voted answers, no gold (2210.11610) | 82.1 % |",
    ),
    differs=(
        "the small base learnt from drafts with slips, so that one sample at T = 0.7 is much worse"
        " than greedy where a family is easy; the four families are pooled by problem (60 of sum3,"
        " 32 of each other), maj@k is the expectation over all k-subsets of the 40 samples, and the"
        " vote share's error is taken on split halves, unbiased."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
