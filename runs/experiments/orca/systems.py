"""System prompts, the forms of answer that they ask for, and the teacher that is taught them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies, world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX
from ouroloop.loop.experiments.making import Lesson, fine_tuned
from ouroloop.loop.stages.prompts import render

NONE, EXPLAIN, STEPS, ANSWER = "", "Explain.", "Step by step.", "Answer only."

# System prompt -> the form of answer that it asks for.
#
# The first is Orca's empty system message.
FORMS = {NONE: "explanation", EXPLAIN: "explanation", STEPS: "steps", ANSWER: "answer"}

NAMES = {NONE: "none", EXPLAIN: "explain", STEPS: "step_by_step", ANSWER: "answer_only"}

# The families whose answers need an explanation to be found by a small model.
NEEDED = tuple(f for f in world.FAMILIES if f not in world.SKILLS)

TEACHING: dict[str, Any] = {
    "learning_rate": 5.0e-4,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
}

NUM_TAUGHT = 8000


def demonstrate(item: Problem, system: str, rng: random.Random) -> str:
    """A right answer in the form that a system prompt asks for.

    Skills have no steps: their answer is their trace.
    """
    if item.family in world.SKILLS or FORMS[system] == "answer":
        return f"answer {item.answer}"
    trace = world.demonstrate(item, world.pick_strategy(item.family, item.metadata["a"], rng))
    return trace.split("\n", 1)[1] if FORMS[system] == "steps" else trace


def form_of(text: str) -> str:
    """`explanation`, `steps`, `answer` or `other`.

    An explanation begins with what was read; steps are calculations alone.
    """
    if strategies.parse(text) is not None:
        return "explanation"
    lines = text.strip().split("\n")
    if not lines[-1].startswith("answer "):
        return "other"
    return (
        "answer"
        if len(lines) == 1
        else "steps"
        if all("=" in line for line in lines[:-1])
        else "other"
    )


def teach(folder: Path) -> Path:
    """The teacher that follows system prompts, in `folder`/checkpoint.

    Made when it is not there yet.
    """
    return fine_tuned(folder, "arithmetic/teacher", TEACHING, lessons(), seed=29)


def lessons() -> list[Lesson]:
    """What the teacher is taught: answers under each system prompt in equal shares.

    Of numbers that it was pretrained on.
    """
    rng, out = random.Random("orca"), list[Lesson]()
    for _ in range(NUM_TAUGHT):
        system, family = (
            rng.choice(list(FORMS)),
            rng.choices(list(FAMILY_MIX), list(FAMILY_MIX.values()))[0],
        )
        item = world.draw(family, "pretrain", rng)
        out.append(
            (
                item.id,
                render(world.PROMPTS, world.PROMPTS.draft, system, question=item.question),
                demonstrate(item, system, rng),
            )
        )
    return out
