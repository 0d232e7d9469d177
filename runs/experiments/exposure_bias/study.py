"""Exposure bias (1506.03099).

The next step after the model's own steps against that after true ones, and what a vote or a critic
recovers.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .beginnings import (
    sample_more,
)
from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import table

STUDY = Study(
    "exposure_bias",
    {
        "model": "arithmetic/base",
        "rounds": 2,
        "engine": SMALL_ENGINE,
        # The same skill at two lengths: the third digit adds lines, and errors may add up.
        "task": {"kind": "arithmetic", "families": ["sum2", "sum3"]},
        "sampling": {
            "problems_per_round": 300,
            "samples_per_problem": 4,
            "temperatures": [1.0],
            "max_tokens": 110,
        },
        # The loop asks for no critique; the critic picks among samples in `sample_more`.
        "refine": {"critique": False, "revisions": 0, "max_critique_tokens": 200},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
        "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 2, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 60,
            "family_problems": 60,
            "samples": 8,
            "baseline_samples": 8,
            "pass_at": 8,
            "majority": 8,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        # Trained on true beginnings alone, on its own, and pretrained with hardly a slip.
        "gold_traces": {"sampling": {"student": False}, "dataset": {"gold": True}},
        "self_trained": {},
        "few_slips": {
            "model": "arithmetic/teacher",
            "sampling": {"student": False},
            "dataset": {"gold": True},
        },
    },
    measure=table,
    extra=sample_more,
    quick={"rounds": 1, "probe": {"problems": 40, "family_problems": 40}},
    quick_arms=("gold_traces", "self_trained"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Exposure bias: own steps against true ones, and what a vote or a critic recovers",
    paper=(
        "Bengio et al. 2015, arXiv 1506.03099; Arora et al. 2022, arXiv 2204.01171; He et al. 2019,"
        " arXiv 1905.10617; verification: Cobbe et al. 2021, arXiv 2110.14168"
    ),
    claim=(
        "Trained on true beginnings, a model errs more after its own, and the errors add up with"
        " length; samples that are voted on or verified recover part."
    ),
    published=(
        "| published | finding |",
        "|---|---|",
        (
            "| 1506.03099 | training on the model's own predictions now and then helps in"
            " captioning, parsing and speech |"
        ),
        (
            "| 2204.01171 | errors under the model's own beginnings add up faster than under true"
            " ones, and perplexity does not show it |"
        ),
        (
            "| 1905.10617 | exposure bias is either insignificant or not distinguishable from the"
            " mismatch of data and model |"
        ),
        (
            "| 2110.14168 | the sample that a verifier ranks highest is right more often than one"
            " sample, on GSM8K |"
        ),
    ),
    differs=(
        "what adds up by itself (a slip spoils all that follows) is separated from exposure bias"
        " proper (a line is wrong even as built on the values before it). The base has seen slips,"
        " honestly built on, in a third of its drafts; the model of few slips (the world's teacher)"
        " in 2 %. The critic is the model itself, trained on critiques of planted slips, not on its"
        " samples."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
