"""What a recipe asks for and its task or its own sections cannot give: refused with a remedy.

What one key may hold is the schema's to say (`loop/config/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ouroloop.evals.tasks import Capability, Task
from ouroloop.loop.config import Recipe
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.base import LearnsFrom
from ouroloop.loop.objectives.registry import build_objective, learns_from
from ouroloop.loop.records import Problem
from ouroloop.loop.stages.preferring import Comparer
from ouroloop.loop.stages.warm_start import trainings


def check_capabilities(task: Task, recipe: Recipe) -> None:
    """Refuse filters that ask for what the task cannot do.

    Raises:
        RecipeError: one does.
    """
    if recipe.filters.format and Capability.ANSWERS not in task.capabilities:
        raise RecipeError(
            f"filters.format: true, but the task {task.name} reads no final answers, so every"
            " sample would be rejected. Set `filters: {format: false}`; samples that were cut by"
            " length are never trained on."
        )
    if recipe.filters.agreement is not None and Capability.ANSWERS not in task.capabilities:
        raise RecipeError(
            f"filters.agreement: {recipe.filters.agreement:g}, but the task {task.name} reads no"
            " final answers that could agree, so every sample would be rejected. Leave it out, or"
            " name a task.grader that reads answers, such as last_number."
        )
    if recipe.filters.steps and Capability.STEPS not in task.capabilities:
        raise RecipeError(
            f"filters.steps: true, but the task {task.name} checks no steps. Set `filters:"
            " {steps: false}`."
        )


def check_problems(recipe: Recipe, problems: Sequence[Problem], task: Task) -> None:
    """Refuse a recipe that asks for what the training problems do not have.

    Raises:
        RecipeError: it does.
    """
    is_scored = Capability.UNAIDED in task.capabilities
    is_scored |= any(p.answer is not None for p in problems)
    if recipe.filters.gold and not is_scored:
        without = "gold: false, format: false, critic: true"
        if Capability.ANSWERS in task.capabilities:
            without = "gold: false, critic: true, agreement: 0.5"
        raise RecipeError(
            "filters.gold: no training problem has a gold answer. To filter without gold answers,"
            f" set `filters: {{{without}}}`."
        )
    if recipe.dataset.gold and not any(p.solution for p in problems):
        raise RecipeError("dataset.gold: true, but no training problem comes with a solution.")
    for where, held in trainings(recipe):
        with _within(where):
            if learns_from(held.objective.use, held.objective.options) is LearnsFrom.PAIRS:
                _check_pairs(recipe, is_scored)
    check_families("refine.families", recipe.refine.families, problems)
    _check_critic(recipe, problems)


def _check_critic(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Refuse a filter on approval for families whose drafts nobody criticises."""
    chosen = recipe.refine.families
    spared = sorted({p.family for p in problems}.difference(chosen)) if chosen else []
    if recipe.filters.critic and spared:
        raise RecipeError(
            f"filters.critic: true keeps what a critique approves, and refine.families:"
            f" {list(chosen)} leaves drafts of the family {spared[0]} without one: none of them"
            " would be kept. Leave refine.families out, or set `filters: {critic: false}`."
        )


def check_students(recipe: Recipe) -> None:
    """Refuse servers without the engine that asks them, and that engine without servers.

    Raises:
        RecipeError: one without the other.
    """
    if (recipe.engine.kind == "server") == bool(recipe.students.addresses):
        return
    raise RecipeError(
        f"students.addresses: got {len(recipe.students.addresses)} servers with engine.kind:"
        f" {recipe.engine.kind}; `engine: {{kind: server}}` and `students: {{addresses:"
        " [http://127.0.0.1:8000/v1#student]}` go together. Set both or neither."
    )


def check_sections(recipe: Recipe) -> None:
    """Refuse sections that contradict each other.

    Raises:
        RecipeError: two do.
    """
    if not recipe.sampling.student and not recipe.teachers and not recipe.dataset.gold:
        raise RecipeError(
            "sampling.student: false: nobody drafts. Name `teachers`, or set `dataset.gold: true`"
            " to learn from gold traces alone."
        )
    if recipe.filters.min_tokens > recipe.sampling.max_tokens:
        raise RecipeError(
            f"filters.min_tokens: {recipe.filters.min_tokens} is more than sampling.max_tokens:"
            f" {recipe.sampling.max_tokens}: no sample would be kept. Lower the one, or raise the"
            " other."
        )
    if not recipe.refine.critique and recipe.filters.critic:
        raise RecipeError(
            "filters.critic: true needs refine.critique: true, or nothing would ever be approved."
        )
    if recipe.refine.criticise == "failing" and recipe.filters.critic:
        raise RecipeError(
            "refine.criticise: failing leaves what passes without a critique, and filters.critic:"
            " true rejects what was not approved: nothing would be kept. Set `refine: {criticise:"
            " undecided}`, or all."
        )
    if recipe.init == "best" and not recipe.monitors.gold:
        raise RecipeError(
            "init: best: the best round is the one with most right answers, which monitors.gold:"
            " false hides. Set `init: previous`."
        )
    _check_objectives(recipe)


def _check_pairs(recipe: Recipe, is_scored: bool) -> None:
    """Refuse sources of preference pairs that this recipe's samples cannot feed."""
    sources, refine = recipe.pairs.sources, recipe.refine
    if "revision" in sources and not refine.revisions:
        raise RecipeError(
            "pairs.sources: revision, but refine.revisions is 0: no draft is revised. Set it to 1,"
            " or name another source (compared, gold)."
        )
    per_problem = recipe.sampling.samples_per_problem
    for source in ("compared", "gold"):
        if source in sources and per_problem < 2:
            raise RecipeError(
                f"pairs.sources: {source} needs two samples of a problem, and"
                f" sampling.samples_per_problem is {per_problem}. Set it to 4."
            )
    if "gold" in sources and not is_scored:
        raise RecipeError(
            "pairs.sources: gold, but no training problem has a gold answer: nobody knows which"
            " sample is wrong. Set `pairs: {sources: [compared]}`, or [revision]."
        )
    if "compared" in sources and (recipe.filters.per_problem or 2) < 2:
        raise RecipeError(
            "pairs.sources: compared needs two kept samples of a problem, and filters.per_problem"
            " is 1. Set it to 4, or to null."
        )
    if recipe.dataset.target == "answer":
        raise RecipeError(
            "dataset.target: answer leaves the traces out, and preference pairs are of whole texts."
            " Leave it out, or train with `objective: sft`."
        )
    if not recipe.sampling.student and not recipe.teachers:
        raise RecipeError(
            "sampling.student: false: nobody drafts, and gold traces alone make no preference"
            " pairs. Name `teachers`, or let the student draft."
        )
    # Loaded now, so that a file of the wrong form stops nothing half-made.
    Comparer.of(recipe.pairs, chat=False)


def _check_objectives(recipe: Recipe) -> None:
    """Refuse an objective, of any stage or the warm start, with wrong settings."""
    for where, held in trainings(recipe):
        with _within(where):
            objective = build_objective(held.objective.use, held.objective.options)
            objective.check(held.trainer_settings, recipe.lora)


def check_families(key: str, named: Sequence[str], problems: Sequence[Problem]) -> None:
    """Refuse families, named under this key of the recipe, that no problem is of.

    Raises:
        RecipeError: there is none of one of them.
    """
    there = sorted({p.family for p in problems})
    unknown = [name for name in named if name not in there]
    if unknown:
        raise RecipeError(
            f"{key}: no training problem is of family {unknown[0]!r}. There are {', '.join(there)}."
        )


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Puts a place before what is wrong."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{where}{error}") from None
