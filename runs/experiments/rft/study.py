"""Rejection-sampling fine-tuning (2308.01825).

Gold traces, then a model's own distinct right paths beside them, then those of several models.
"""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, EQUAL, FURTHER, goals
from .measure import measure

FAMILY = "sum3"

QUESTIONS = 400

K = 9

TEMPERATURES = [0.7, 1.0, 1.3]

MODELS = ["@gold", "@gold_b", "@gold_c"]

WITH_TEACHER = ["@gold", "@gold_b", "@gold_teacher"]

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "init": "base",
    "task": {"kind": "arithmetic", "families": [FAMILY], "num_problems": QUESTIONS},
    "sampling": {
        "student": False,
        "problems_per_round": QUESTIONS,
        "samples_per_problem": K,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
    "dataset": {"gold": True},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 400,
        "family_problems": 0,
        "samples": 4,
        "baseline_samples": 2,
        "pass_at": 2,
        "majority": 4,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}

OWN: dict[str, Any] = {"teachers": ["@gold"]}

THIRD: dict[str, Any] = {"samples_per_problem": K // len(MODELS)}

# gold: supervised fine-tuning. gold_long: the same for three times the epochs.
#
# gold_b, gold_c, gold_teacher: further models that draft. k1, k3, k9: samples per question from
# `gold`. models: k = 9 from each of three; with_teacher: one of the three is another base.
# *_equal: nine samples a question in all, `EQUAL` paths learnt. *_steps: the step filter beside
# the answer. k27: as many samples as `models` draws, of `gold` alone; run when named.
ARMS: dict[str, dict[str, Any]] = {
    "gold": {},
    # As many steps as the arms with sampled paths take: is it only longer training?
    "gold_long": {"sft": {"num_train_epochs": 9}},
    # Drafters, not students: other seeds of the same base, and another base.
    "gold_b": {"seed": 1000},
    "gold_c": {"seed": 2000},
    "gold_teacher": {"model": "arithmetic/teacher"},
    # The published step: more samples of the model's own.
    "k1": {**OWN, "sampling": {"samples_per_problem": 1}},
    "k3": {**OWN, "sampling": {"samples_per_problem": 3}},
    "k9": OWN,
    "models": {"teachers": MODELS},
    # Wrong steps turned away: do several models cost because of theirs?
    "k9_steps": {**OWN, "filters": {"steps": True}},
    "models_steps": {"teachers": MODELS, "filters": {"steps": True}},
    "with_teacher": {"teachers": WITH_TEACHER},
    "with_teacher_steps": {"teachers": WITH_TEACHER, "filters": {"steps": True}},
    # As many learnt paths each, so that only their kind differs.
    "k9_equal": {**OWN, "dataset": {"size": EQUAL}},
    "temperatures_equal": {
        **OWN,
        "sampling": {"temperatures": TEMPERATURES},
        "dataset": {"size": EQUAL},
    },
    "models_equal": {"teachers": MODELS, "sampling": THIRD, "dataset": {"size": EQUAL}},
    "k27": {**OWN, "sampling": {"samples_per_problem": K * len(MODELS)}},
    "k27_steps": {
        **OWN,
        "sampling": {"samples_per_problem": K * len(MODELS)},
        "filters": {"steps": True},
    },
}

STUDY = Study(
    "rft",
    BASE,
    ARMS,
    measure=measure,
    quick={"task": {"num_problems": 200}, "probe": {"problems": 200}},
    quick_arms=("gold", "k1", "k9", "models"),
    further=FURTHER,
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Rejection-sampling fine-tuning (RFT)",
    paper="Yuan et al. 2023, arXiv 2308.01825",
    claim=(
        "A fine-tuned model's own right solutions, one per distinct list of calculations, join the"
        " gold ones and the base is fine-tuned on all: it gets better, and better still with"
        " several models' solutions, which hold more distinct paths per question."
    ),
    published=(
        "| LLaMA-7B on GSM8K | maj@1 |",
        "|---|---|",
        "| supervised fine-tuning on gold solutions | 35.9 % |",
        "| RFT, k = 100 samples of the same model | 41.7 % |",
        "| RFT, samples of several models | 49.3 % |",
    ),
    differs=(
        "three-digit sums, of which the base has seen a few in pretraining; k = 9 instead of 100,"
        " because a question has four kinds of right path here and samples soon repeat themselves."
        " The further models of `models` are the same base fine-tuned with other seeds; of"
        " `with_teacher`, a better pretrained checkpoint too. The lists of calculations are"
        " compared without their order. All seeds have the same questions; they differ in sampling"
        " and training. `models` draws three times as many samples as `k9`. `k27`, the one model"
        " drawn as often, was added to look into what that costs: strategies that it seldom uses,"
        " each path counted once, take a larger share, and the greedy answer is more often by one"
        " of those, which this base seldom gets right, while more questions are solved by one."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
)
