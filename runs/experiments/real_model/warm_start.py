"""The warm start: SmolLM2 trained once on our demonstrations, before round 0 of every arm.

Few-shot the model is right in 6 % of ASDiv, which is too little to filter; after it in a quarter.
"""

from __future__ import annotations

import os
from pathlib import Path

from ouroloop.evals.dataset import jsonl_task
from ouroloop.loop.experiments.making import Lesson, fine_tuned

from .arms import DTYPE, PROMPTS
from .data import HELDOUT, problems

MODEL = os.environ.get("OUROLOOP_STUDY_MODEL", "smollm2-135m")
# All ways of so many problems: of all that have a demonstration. Once over the first 512 left 8 %
# of right answers at T = 1, and hardly any pair of them by two ways.
NUM_PROBLEMS = 1097
# All weights, at twice the rate of the rounds after it: here the model meets the task.
SETTINGS = {
    "learning_rate": 1.0e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 28,
    "warmup_steps": 10,
    "bf16": DTYPE == "bfloat16",
}


def start(folder: Path) -> Path:
    """The checkpoint in `folder`, made when it is not there yet."""
    # train.json is written last: a folder without it is what a crash left.
    if (folder / "train.json").exists():
        return folder / "checkpoint"
    source = problems(folder.parent / "problems")
    return fine_tuned(folder, MODEL, SETTINGS, lessons(source), seed=0)


def lessons(source: Path) -> list[Lesson]:
    """Every demonstration of the first problems that have any.

    The reserve is left out: its demonstrations are replayed, and scored as held-out text.
    """
    taught = [p for p in jsonl_task(source, HELDOUT).problems("train") if p.solution]
    prompt = str(PROMPTS["draft"])
    return [
        (problem.id, [{"role": "user", "content": prompt.format(question=problem.question)}], text)
        for problem in taught[:NUM_PROBLEMS]
        for text in problem.metadata["solutions"]
    ]
