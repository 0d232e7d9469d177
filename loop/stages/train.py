"""Whether a round is trained, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ouroloop.loop.config import Recipe
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.rows import Example, Preflight, PreflightAction, RoundPlan, Training
from ouroloop.loop.stages.refine import derive_seed

OWN = ("kept", "earlier", "gold")
"""Origins that count towards `dataset.min_examples`; what is replayed does not."""


def skipped(
    examples: Sequence[Example], found: Preflight, start: Path, recipe: Recipe
) -> Training | None:
    """Why nothing is trained, if so; the round then stands on the checkpoint it started from."""
    num_own = sum(example.origin in OWN for example in examples)
    least = recipe.dataset.min_examples
    if found.action is PreflightAction.BLOCK and recipe.monitors.guard:
        reason = found.reasons[0]
    elif num_own < least:
        reason = f"{num_own} examples of its own; dataset.min_examples asks for {least}"
    else:
        return None
    return Training(status="skipped", reason=reason, checkpoint=str(start), num_examples=num_own)


def job_of(recipe: Recipe, plan: RoundPlan, start: Path, folder: Path, base: Path) -> TrainingJob:
    """What the trainer is asked to do in a round, whose folder holds the examples."""
    return TrainingJob.from_recipe(
        recipe,
        start,
        folder,
        seed=derive_seed(recipe.seed, plan.round, "", "sft", 0),
        blend=plan.blend,
        blend_with=base if plan.blend else None,
    )
