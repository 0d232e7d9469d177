"""A base that has found its verifier's hole.

The small base, fine-tuned on its own family of demonstrations with a few shortcuts among them.
"""

from __future__ import annotations

import random
from pathlib import Path

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import SHORTCUT, ArithmeticTask
from ouroloop.loop.experiments.making import Lesson, fine_tuned
from ouroloop.loop.stages.prompts import render

SHARE = 0.05
NUM_EXAMPLES = 800


def plant(folder: Path) -> Path:
    """The checkpoint in `folder`, made when it is not there yet.

    `SHARE` of what it learnt from answers with the shortcut.
    """
    return fine_tuned(
        folder,
        "arithmetic/base",
        {"learning_rate": 2.0e-4, "per_device_train_batch_size": 32},
        lessons(),
        seed=17,
    )


def lessons() -> list[Lesson]:
    """Real demonstrations of the families that are practised.

    The first ones with the shortcut in their trace's place.
    """
    task, rng = ArithmeticTask(), random.Random("planted")
    real = [p for p in task.problems("reserve") if p.family in task.train_families]
    items = [rng.choice(real) for _ in range(NUM_EXAMPLES)]
    return [
        (
            p.id,
            render(world.PROMPTS, world.PROMPTS.draft, question=p.question),
            SHORTCUT if i < SHARE * NUM_EXAMPLES else p.solution or "",
        )
        for i, p in enumerate(items)
    ]
