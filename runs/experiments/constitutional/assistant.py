"""An assistant that was taught to be helpful alone, and to critique and revise when asked.

What constitutional self-training starts from.

The small base, fine-tuned on its own kind of traces, spoilt on the red-team families
(`ouroloop.evals.worlds.arithmetic.principles.spoil`) and as they are on the others, and on
critiques and revisions by principle: half of the revisions answer a critique, half come without
one. Everything is written by programs, with numbers of the pretraining split. The built-in
`arithmetic/assistant` was made by `python -m runs.experiments.constitutional.assistant FOLDER`, run
at the top of the repository.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Problem, Prompts
from ouroloop.evals.worlds.arithmetic import principles, world
from ouroloop.loop.experiments.making import fine_tuned
from ouroloop.loop.records import Prompt
from ouroloop.loop.stages.constitution import Principle, load_constitution
from ouroloop.loop.stages.prompts import render, resolve_prompts

# Families whose drafts violate the principles, and how often each is met.
RED_TEAM = {"sum2": 0.9, "sum3": 0.1}

# Families whose drafts never do.
HELPFUL = {"missing": 0.3, "multibuy": 0.2, "copy": 0.15, "sort": 0.15, "compare": 0.2}
NUM_CONVERSATIONS, NUM_HELPFUL = 4500, 800

# Share of the drafts under discussion that hold a slip.
#
# It is never learnt, and no principle of these is about it.
SLIPS = 0.15

# `task.prompts` of every recipe that starts from this model.
PROMPTS: dict[str, Any] = {
    "critique": "{question}\nA:\n{draft}\nC: {principle}\n",
    "revise": "{question}\nA:\n{draft}\nC:\n{critique}\nR: {principle}\n",
    "direct": "{question}\nA:\n{draft}\nR: {principle}\n",
}


def make(folder: Path) -> Path:
    """The checkpoint in `folder`, made when it is not there yet."""
    prompts = resolve_prompts(world.PROMPTS, PROMPTS, False)
    learnt = rows(random.Random("assistant"), load_constitution(principles.CONSTITUTION), prompts)
    settings = {
        "learning_rate": 2.0e-3,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 16,
        "warmup_steps": 30,
    }
    return fine_tuned(
        folder,
        "arithmetic/base",
        settings,
        [(problem, asked, text) for problem, _, asked, text in learnt],
        seed=23,
    )


# Problem id, kind (draft, critique, revision, direct), prompt, completion.
Row = tuple[str, str, Prompt, str]


def rows(rng: random.Random, constitution: Sequence[Principle], prompts: Prompts) -> Iterator[Row]:
    """What is learnt: helpful drafts, spoilt drafts, and revisions with and without a critique."""
    by_name = {p.name: p for p in constitution}
    for _ in range(NUM_HELPFUL):
        item = _problem(HELPFUL, rng)
        yield _draft(item, prompts, _trace(item, rng))
    for i in range(NUM_CONVERSATIONS):
        item = _problem(RED_TEAM, rng)
        if i % 2:
            yield _draft(item, prompts, principles.spoil(item, _trace(item, rng), rng))
        for critique in (True, False):
            text = under_discussion(item, rng)
            principle = by_name[_principle(item, text, sorted(by_name), rng)]
            yield from _revision(item, prompts, text, principle, critique)


def _draft(item: Problem, prompts: Prompts, text: str) -> Row:
    return item.id, "draft", render(prompts, prompts.draft, question=item.question), text


def _principle(item: Problem, text: str, names: Sequence[str], rng: random.Random) -> str:
    """Often one that the text violates: at random most revisions would have nothing to change."""
    broken = [name for name, is_broken in principles.violations(item, text).items() if is_broken]
    return rng.choice(broken if broken and rng.random() < 0.35 else names)


def _revision(
    item: Problem, prompts: Prompts, text: str, principle: Principle, with_critique: bool
) -> Iterator[Row]:
    critique = principles.criticise(principle.name, item, text) if with_critique else ""
    asked = {"question": item.question, "draft": text, "critique": critique}
    if with_critique:
        request = principle.critique_request
        prompt = render(prompts, prompts.critique, principle=request, **asked)
        yield item.id, "critique", prompt, critique
    template = prompts.revise if with_critique else prompts.direct
    prompt = render(prompts, template, principle=principle.revision_request, **asked)
    revised = principles.revise(principle.name, item, text)
    yield item.id, "revision" if with_critique else "direct", prompt, revised


def under_discussion(item: Problem, rng: random.Random) -> str:
    """A spoilt text, often with some of the principles seen to already, as in later turns.

    Now and then with a slip.
    """
    strategy = world.pick_strategy(item.family, item.metadata["a"], rng)
    trace = (
        world.slip(item, strategy, rng)
        if rng.random() < SLIPS
        else world.demonstrate(item, strategy)
    )
    text = principles.spoil(item, trace, rng)
    for name in rng.sample(sorted(principles.PRINCIPLES), rng.choice((0, 0, 1, 2, 3))):
        text = principles.revise(name, item, text)
    return text


def _problem(mix: dict[str, float], rng: random.Random) -> Problem:
    return world.draw(rng.choices(list(mix), list(mix.values()))[0], "pretrain", rng)


def _trace(item: Problem, rng: random.Random) -> str:
    return world.demonstrate(
        item,
        (
            None
            if item.family in world.SKILLS
            else world.pick_strategy(item.family, item.metadata["a"], rng)
        ),
    )


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
