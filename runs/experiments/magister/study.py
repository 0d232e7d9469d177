"""Distilled traces against answers alone (2212.08410).

One student, the same questions, the same teacher, two things to learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ouroloop.evals.worlds.arithmetic.world import Demonstration
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study

from .figure import draw
from .findings import COLUMNS, PROBLEMS, SIZES, goals
from .measure import FAMILIES, measure

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "teachers": ["arithmetic/teacher"],
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "init": "base",
    "task": {"kind": "arithmetic", "families": list(FAMILIES)},
    "sampling": {
        "student": False,
        "problems_per_round": PROBLEMS[SIZES[-1]],
        "samples_per_problem": 1,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": 1},
    "dataset": {"size": SIZES[-1], "target": "trace"},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 200,
        "family_problems": 120,
        "samples": 2,
        "baseline_samples": 2,
        "pass_at": 2,
        "majority": 2,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}


def learning(target: str, size: int) -> dict[str, Any]:
    """What an arm learns, and from how many examples.

    Arms of one size draw the same problems and the same samples.
    """
    return {
        "sampling": {"problems_per_round": PROBLEMS[size]},
        "dataset": {"target": target, "size": size},
    }


def naive(folder: Path) -> Path:
    """A student that has never seen a worked trace.

    Pretrained from scratch on the world's questions with their answers alone (made once).
    """
    from ouroloop.evals.worlds.arithmetic import pretrain

    out = folder / "checkpoint"
    if not out.exists():
        pretrain.pretrain(
            pretrain.PretrainConfig("answers", tokens=1_000_000, slips=0.0, talk=0.0),
            out,
            reading=answers_alone,
        )
    return out


def answers_alone(whole: Demonstration) -> Demonstration:
    """A demonstration without the lines between question and answer."""
    question, (trace, learn), *_ = whole.pieces
    return Demonstration(whole.family, (question, (trace.rsplit("\n", 1)[-1], learn)))


# A new skill takes longer: at the other arms' rate.
#
# Ten epochs of traces left this student below ten of answers (one seed).
NAIVE: dict[str, Any] = {
    "model": "$naive",
    "sft": {"num_train_epochs": 20, "learning_rate": 2.0e-3, "warmup_steps": 50},
}

# answer_long: four times the epochs, for an answer has fewer tokens than a trace.
#
# Naive_*: a student that was pretrained without traces.
ARMS: dict[str, dict[str, Any]] = {
    **{
        f"{target}_{size}": learning(target, size)
        for size in SIZES
        for target in ("trace", "answer")
    },
    "answer_long": {**learning("answer", SIZES[-1]), "sft": {"num_train_epochs": 12}},
    "naive_trace": {**learning("trace", SIZES[-1]), **NAIVE},
    "naive_answer": {**learning("answer", SIZES[-1]), **NAIVE},
}

STUDY = Study(
    "magister",
    BASE,
    ARMS,
    made={"naive": naive},
    measure=measure,
    quick={"probe": {"problems": 60, "family_problems": 60}},
    quick_arms=("trace_100", "answer_100", "trace_400", "answer_400"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Distilled traces against answers alone",
    paper="Magister et al. 2022, arXiv 2212.08410",
    claim=(
        "A small student that learns a large teacher's solutions, kept where the answer is right,"
        " does better than one that learns answers."
    ),
    published=(
        "| T5 XXL on GSM8K, fine-tuned on | accuracy |",
        "|---|---|",
        "| questions and answers | 8.11 % |",
        "| questions, traces of PaLM 540B and answers | 21.99 % |",
    ),
    differs=(
        "student and teacher have one size (0.96 M parameters); the teacher is better pretrained."
        " The student of most arms, arithmetic/base, has seen worked traces in pretraining, unlike"
        " T5: what the answers-only arms lose there is in part a habit that they are trained out"
        " of. The naive student has seen questions with answers alone, and shows how far so few"
        " traces reach one who never saw any."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
)
