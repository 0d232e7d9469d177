"""Who drafts the answers to which problems in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop.records import Problem
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.plan import draw
from ouroloop.loop.stages.refine import STUDENT


@dataclass(frozen=True)
class Source:
    """A model and the problems that it is asked. `name` is a part of every sample's id."""

    name: str
    model: Path | str
    problems: Sequence[Problem]


def of_round(number: int) -> str:
    """The name of an earlier round's model where it drafts beside the student."""
    return f"round{number}"


def sources_of(
    plan: RoundPlan, setting: Setting, checkpoint: Callable[[int], Path]
) -> list[Source]:
    """The sources of a round, the student first.

    Problems are dealt out between the student and earlier rounds of its own (`plan.teachers`); the
    recipe's `teachers` draft for all of them. `checkpoint`: that of a round.
    """
    problems = draw(setting.problems, plan, setting.recipe.seed)
    # The student and its earlier selves share the problems, so that their number does not change
    # how much is sampled; teachers are the recipe's choice, and add to it.
    found = []
    if setting.recipe.sampling.student:
        own = [(STUDENT, plan.sample_from), *((of_round(n), n) for n in plan.teachers)]
        found += [
            Source(name, checkpoint(number), problems[i :: len(own)])
            for i, (name, number) in enumerate(own)
        ]
    found += [
        Source(f"teacher{i}", teacher, problems) for i, teacher in enumerate(setting.teachers)
    ]
    return found
