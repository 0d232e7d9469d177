"""Whether a round is trained, and on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.objectives.base import LearnsFrom
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.registry import learns_from
from ouroloop.loop.objectives.retries import retries_of
from ouroloop.loop.round import Round, Table
from ouroloop.loop.rows import Example, Pair, PreflightAction, RoundPlan, Training
from ouroloop.loop.stages.refine import derive_seed
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.names import Action

# Origins that count towards `dataset.min_examples`; what is replayed does not.
OWN = ("kept", "earlier", "gold")


def table_of(recipe: Recipe, number: int) -> Table[Example] | Table[Pair]:
    """What a round's objective learns from: the round's examples, or its preference pairs."""
    objective = recipe.at(number).objective
    if learns_from(objective.use, objective.options) is LearnsFrom.PAIRS:
        return Round.pairs
    return Round.examples


def skipped(round: Round, start: Path, recipe: Recipe) -> Training | None:
    """Why nothing is trained, if so; the round then stands on the checkpoint it started from."""
    found, num_own = round.preflight, num_learnt(round)
    # Unguarded arms train on: what a loop without monitors would do is what they show.
    if found.action is PreflightAction.BLOCK and recipe.monitors.guard:
        reason = found.reasons[0]
    elif num_own < recipe.dataset.min_examples:
        reason = _too_few(round, recipe)
    else:
        return None
    return Training(status="skipped", reason=reason, checkpoint=str(start), num_examples=num_own)


def outcome(round: Round) -> tuple[str, dict[str, Any]]:
    """The run's event of a training, with its facts; `retries` if it was not the first attempt."""
    facts = round.training
    if facts.status == "rejected":
        return "training_rejected", {"reason": facts.reason}
    said: dict[str, Any] = {"seconds": facts.seconds, "examples": facts.num_examples}
    retries = retries_of(round.folder)
    if retries:
        said["retries"] = [str(retry) for retry in retries]
    return "trained", said


def num_learnt(round: Round) -> int:
    """The round's examples of its own, or its preference pairs where it learns from those."""
    if round.has(Round.pairs):
        return len(round.pairs)
    return sum(example.origin in OWN for example in round.examples)


def _too_few(round: Round, recipe: Recipe) -> str:
    least = recipe.dataset.min_examples
    if round.has(Round.pairs):
        sources = ", ".join(recipe.pairs.sources)
        return (
            f"{len(round.pairs)} preference pairs (pairs.sources: {sources});"
            f" dataset.min_examples asks for {least}"
        )
    return f"{num_learnt(round)} examples of its own; dataset.min_examples asks for {least}"


def weigh_starvation(decision: Decision, round: Round, recipe: Recipe) -> Decision:
    """The decision of a round that made too few preference pairs, as of one that kept too few."""
    if not round.has(Round.pairs) or len(round.pairs) >= recipe.dataset.min_examples:
        return decision
    action = decision.action
    if action == Action.CONTINUE:
        action = Action.REINJECT
    why = f"{_too_few(round, recipe)}: the training set starves"
    return replace(decision, action=action, starved=True, reasons=(why, *decision.reasons))


def weigh_rejection(
    decision: Decision, round: Round, history: Sequence[Round], recipe: Recipe
) -> Decision:
    """The decision of a round whose training was rejected: it says so, and a second one halts.

    Once may be an unlucky batch, and the next round draws another. Two in a row share a cause that
    no further round removes: a learning rate, or a weight of the model.
    """
    if not _is_rejected(round):
        return decision
    why = f"the training was rejected: {round.training.reason}"
    if not _is_rejected(history[-1]):
        return replace(decision, reasons=(f"{why}; the next round starts again", *decision.reasons))
    section = recipe.at(round.number).settings_section
    remedy = (
        f"Start a new run with a lower {section}.learning_rate, or look into the model's weights"
    )
    reasons = (f"{why}, as the round's before. {remedy}", *decision.reasons)
    return replace(decision, action=Action.HALT, reasons=reasons)


def _is_rejected(round: Round) -> bool:
    return round.has(Round.training) and round.training.status == "rejected"


def job_of(
    recipe: Recipe, plan: RoundPlan, folder: Path, checkpoint: Callable[[int], Path]
) -> TrainingJob:
    """What the trainer is asked to do in a round, whose folder holds what it learns from.

    `checkpoint`: where a round's model lies.
    """
    return TrainingJob.from_recipe(
        recipe.at(plan.round),
        checkpoint(plan.start_from),
        folder,
        seed=derive_seed(recipe.seed, plan.round, "", "sft", 0),
        blend=plan.blend,
        blend_with=checkpoint(plan.blend_with) if plan.blend else None,
        baseline=checkpoint(0),
        table=table_of(recipe, plan.round).file,
    )
