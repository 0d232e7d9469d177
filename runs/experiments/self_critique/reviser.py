"""The model that all arms start from: the small base, taught to revise without a critique too.

The base revises what a critique rejects and was never asked without one: of 76 drafts of sums its
direct revisions left 9 % right where 66 % had been, most of them texts of another kind. Here it is
fine-tuned on as many direct revisions as others, beside drafts, critiques and revisions as it
learnt them, slips included, so that nothing but the critique differs between the two ways.
Everything is written by programs, with numbers of the pretraining split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX
from ouroloop.loop.experiments.making import Lesson, fine_tuned
from ouroloop.loop.stages.prompts import render

# Conversations about a draft, each a critique, a revision that answers it and a direct one; and
# drafts alone.
CONVERSATIONS, DRAFTS = 1000, 800

# Wrong drafts among those under discussion, as in pretraining, and slips among the learnt ones.
WRONG, SLIPS = 0.6, 0.36


def make(folder: Path) -> Path:
    """The checkpoint in `folder`, made when it is not there yet."""
    settings = {
        "learning_rate": 1.0e-3,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 32,
        "warmup_steps": 10,
    }
    return fine_tuned(folder, "arithmetic/base", settings, list(lessons()), seed=29)


def lessons() -> Iterator[Lesson]:
    """What is learnt."""
    rng = random.Random("reviser")
    for _ in range(DRAFTS):
        item, strategy = _drawn(dict(FAMILY_MIX), rng)
        yield _lesson(item, world.PROMPTS.draft, _text(item, strategy, SLIPS, rng))
    with_steps = {f: w for f, w in FAMILY_MIX.items() if f not in world.SKILLS}
    for _ in range(CONVERSATIONS):
        item, strategy = _drawn(with_steps, rng)
        draft = _text(item, strategy, WRONG, rng)
        critique, right = world.criticise(item, draft), world.demonstrate(item, strategy)
        yield _lesson(item, world.PROMPTS.critique, critique, draft=draft)
        # The same turn with the critique and without; a revision keeps the draft's strategy.
        yield _lesson(item, world.PROMPTS.revise, right, draft=draft, critique=critique)
        yield _lesson(item, world.PROMPTS.direct, right, draft=draft)


def _drawn(mix: dict[str, float], rng: random.Random) -> tuple[Problem, str | None]:
    """A problem and a strategy for it, as the world draws them; skills have no strategy."""
    family = rng.choices(list(mix), list(mix.values()))[0]
    item = world.draw(family, "pretrain", rng)
    if family in world.SKILLS:
        return item, None
    return item, world.pick_strategy(family, item.metadata["a"], rng)


def _text(item: Problem, strategy: str | None, wrong: float, rng: random.Random) -> str:
    """A right trace, or in this share of cases one with a slip; skills have no slips."""
    if strategy is None or rng.random() >= wrong:
        return world.demonstrate(item, strategy)
    return world.slip(item, strategy, rng)


def _lesson(item: Problem, template: str, text: str, **fields: str) -> Lesson:
    return item.id, render(world.PROMPTS, template, question=item.question, **fields), text
