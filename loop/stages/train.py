"""Whether a round is trained, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ouroloop.loop.config import Recipe
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.round import Round
from ouroloop.loop.rows import Example, Preflight, PreflightAction, RoundPlan, Training
from ouroloop.loop.stages.refine import derive_seed
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.names import Action

# Origins that count towards `dataset.min_examples`; what is replayed does not.
OWN = ("kept", "earlier", "gold")


def skipped(
    examples: Sequence[Example], found: Preflight, start: Path, recipe: Recipe
) -> Training | None:
    """Why nothing is trained, if so; the round then stands on the checkpoint it started from."""
    num_own = sum(example.origin in OWN for example in examples)
    least = recipe.dataset.min_examples
    # Unguarded arms train on: what a loop without monitors would do is what they show.
    if found.action is PreflightAction.BLOCK and recipe.monitors.guard:
        reason = found.reasons[0]
    elif num_own < least:
        reason = f"{num_own} examples of its own; dataset.min_examples asks for {least}"
    else:
        return None
    return Training(status="skipped", reason=reason, checkpoint=str(start), num_examples=num_own)


def weigh_rejection(decision: Decision, round: Round, history: Sequence[Round]) -> Decision:
    """The decision of a round whose training was rejected: it says so, and a second one halts.

    Once may be an unlucky batch, and the next round draws another. Two in a row share a cause that
    no further round removes: a learning rate, or a weight of the model.
    """
    if not _is_rejected(round):
        return decision
    why = f"the training was rejected: {round.training.reason}"
    if not _is_rejected(history[-1]):
        return replace(decision, reasons=(f"{why}; the next round starts again", *decision.reasons))
    remedy = "Start a new run with a lower sft.learning_rate, or look into the model's weights"
    reasons = (f"{why}, as the round's before. {remedy}", *decision.reasons)
    return replace(decision, action=Action.HALT, reasons=reasons)


def _is_rejected(round: Round) -> bool:
    return round.has(Round.training) and round.training.status == "rejected"


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
