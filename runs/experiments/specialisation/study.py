"""Specialisation (2301.12726).

A small model distilled on one family gains there and loses the others; a share of real data
prevents the loss.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import table

STUDY = Study(
    "specialisation",
    {
        "model": "arithmetic/base",
        "teachers": ["arithmetic/teacher"],
        "rounds": 5,
        "engine": SMALL_ENGINE,
        "task": {"kind": "arithmetic", "families": ["sum2"]},
        "sampling": {
            "student": False,
            "problems_per_round": 200,
            "samples_per_problem": 4,
            "temperatures": [1.0],
            "max_tokens": 80,
        },
        "refine": {"critique": False, "revisions": 0},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
        "dataset": {"replay_fraction": 0.0},
        # Four times the other studies' rate: at theirs the loss hardly shows in three rounds.
        "sft": {"learning_rate": 2.0e-3, "num_train_epochs": 4, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 150,
            "family_problems": 40,
            "samples": 4,
            "baseline_samples": 8,
            "pass_at": 4,
            "majority": 4,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        # Shares of demonstrations of all families; `guarded` adds them only when the rule says so.
        "replay_0": {},
        "replay_10": {"dataset": {"replay_fraction": 0.1}},
        "replay_30": {"dataset": {"replay_fraction": 0.3}},
        "guarded": {"monitors": {"guard": True}},
    },
    measure=table,
    quick={"rounds": 3, "probe": {"problems": 100, "family_problems": 24}},
    quick_arms=("replay_0", "replay_30"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Specialisation: what distillation on one family costs the others",
    paper="Fu et al. 2023, arXiv 2301.12726",
    claim=(
        "A small model distilled on one kind of reasoning gains there and pays with its other"
        " abilities."
    ),
    published=(
        "| FlanT5 (250M to 11B), distilled on mathematical chain of thought | change |",
        "|---|---|",
        "| GSM8K and three other sets of word problems | up at every size |",
        "| BigBench-Hard with chain of thought | all of it lost |",
        "| BigBench-Hard, answers alone | a large part lost |",
    ),
    differs=(
        "the paper has no arm with real data mixed in, and no monitor; the loss there is measured"
        " on another benchmark, here on the world's other families: three with steps, three"
        " without. The teacher is a better small model, its samples are kept when their answer is"
        " right. The learning rate is four times that of the other studies: at theirs, three rounds"
        " of a first run cost the other families greedy accuracy alone."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
    notes=notes,
)
