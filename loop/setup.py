"""From a recipe to the things that a run needs, all checked before anything is made.

A wrong input must leave nothing half-made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ouroloop.evals.errors import DataError as TaskDataError
from ouroloop.evals.near import NO_COPIES, Copies
from ouroloop.evals.registry import build_task
from ouroloop.evals.tasks import Capability, Prompts, Task
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.judge import BASELINE
from ouroloop.loop.engines import remote, students
from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.reasoning import Reasoning, ThinkingTask, opens_thought
from ouroloop.loop.recipes import automatic, extensions, refusals
from ouroloop.loop.records import Problem
from ouroloop.loop.stages import clustering, frozen_judge, warm_start
from ouroloop.loop.stages.constitution import (
    Principle,
    Shots,
    load_constitution,
    load_critique_shots,
)
from ouroloop.loop.stages.judging import Strategy
from ouroloop.loop.stages.naming import Learned, seeing, strategist
from ouroloop.loop.stages.probe import ProbeSet, choose_probe_set
from ouroloop.loop.stages.prompts import resolve_prompts
from ouroloop.loop.stages.texts import HeldOut, hold_out


@dataclass(frozen=True)
class Setting:
    """What stays the same from the first round to the last.

    demonstrations: those that may be replayed; held_out: those that never are; warm_start: those
    that the warm start learns from. A teacher is a checkpoint's folder or a server's address.
    recipe: without `auto`; choices: what it became. copies: finds held-out questions in texts.
    """

    recipe: Recipe
    task: Task
    prompts: Prompts
    problems: tuple[Problem, ...]
    demonstrations: tuple[Problem, ...]
    held_out: HeldOut
    probe_set: ProbeSet
    base: Path
    teachers: tuple[Path | str, ...]
    principles: tuple[Principle, ...]
    strategy: Strategy | Learned
    warm_start: tuple[Problem, ...] = ()
    copies: Copies = NO_COPIES
    choices: tuple[str, ...] = ()
    reasoning: Reasoning | None = None
    judge: frozen_judge.Judge | None = None
    responses: clustering.Responses | None = None
    shots: Shots = field(default_factory=Shots)


def prepare(recipe: Recipe) -> Setting:
    """Load and check everything a recipe names.

    Raises:
        UserError: a file, checkpoint, template or setting is wrong; nothing has been written.
    """
    try:
        task = build_task(recipe.task.kind, recipe.task.settings())
        problems = practised(task, recipe)
        held_out = hold_out(task.problems("reserve"), recipe.probe, {p.family for p in problems})
        probe_set = choose_probe_set(task, recipe.probe)
        # Real texts and planted items are held out of training as the probe's problems are.
        probe_set = replace(probe_set, heldout=probe_set.heldout | held_out.questions)
        own = (*problems, *held_out.rest)
        asked = (*task.problems("heldout"), *held_out.texts, *held_out.audit_items)
        copies = Copies.of(problem.question for problem in asked)
        demonstrations = warm_start.demonstrations(recipe, own, probe_set.heldout, copies)
    except TaskDataError as error:
        raise DataError(str(error)) from error
    # Everything that can be known to be wrong is reported now: nothing half-made is left behind.
    refusals.check_capabilities(task, recipe)
    extensions.check_all(recipe)
    refusals.check_problems(recipe, problems, task)
    # A server is asked whether it answers before anything is made; a checkpoint is looked into.
    base, teachers, judge_model = _models(recipe)
    recipe, choices = _chosen(recipe, base)
    judge = frozen_judge.judge_of(recipe, judge_model, teachers, probe_set.problems)
    prompts = _prompts(task, recipe, (base, *teachers, judge_model))
    task, strategy, reasoning = _reading(task, prompts, recipe, base)
    return Setting(
        recipe=recipe,
        task=task,
        prompts=prompts,
        problems=tuple(problems),
        demonstrations=held_out.rest,
        held_out=held_out,
        probe_set=probe_set,
        base=base,
        teachers=teachers,
        principles=_principles(recipe),
        strategy=strategy,
        warm_start=demonstrations,
        copies=copies,
        choices=choices,
        reasoning=reasoning,
        judge=judge,
        responses=_responses(task, recipe, probe_set, reasoning),
        shots=_shots(recipe),
    )


def _prompts(task: Task, recipe: Recipe, models: Sequence[Path | str | None]) -> Prompts:
    # One template for all that are asked: chat turns only where every checkpoint knows them.
    checkpoints = [check_checkpoint(model) for model in models if isinstance(model, Path)]
    chat_template = all(has_chat_template(checkpoint) for checkpoint in checkpoints)
    reads_answers = Capability.ANSWERS in task.capabilities
    found = resolve_prompts(task.prompts, recipe.task.prompts, chat_template, reads_answers)
    if recipe.dataset.learn_turns == "all" and not found.chat:
        raise RecipeError(
            "dataset.learn_turns: all needs a checkpoint with a chat template, whose turns end with"
            " a stop token; this one is asked plain text. Set it to last."
        )
    return replace(found, form=recipe.refine.form, asks_verdict=recipe.asks_verdict)


def _responses(
    task: Task, recipe: Recipe, probe_set: ProbeSet, reasoning: Reasoning | None
) -> clustering.Responses | None:
    """Response clusters of the texts past the thoughts, where the recipe wants them."""
    seen = reasoning.seen if reasoning is not None else str
    monitors, problems = recipe.monitors, probe_set.problems
    return clustering.responses_of(monitors.clusters, task, problems, seen, monitors.gold)


def _reading(
    task: Task, prompts: Prompts, recipe: Recipe, base: Path
) -> tuple[Task, Strategy | Learned, Reasoning | None]:
    """The task and the strategy reader, past the thoughts of a model that thinks."""
    strategy = strategist(task, recipe.monitors.canonicaliser)
    if recipe.reasoning is None:
        return task, strategy, None
    opened = opens_thought(check_checkpoint(base).tokenizer, prompts, recipe)
    reasoning = Reasoning(recipe.reasoning, opened)
    return ThinkingTask(task, reasoning), seeing(strategy, reasoning.seen), reasoning


def _chosen(recipe: Recipe, base: Path) -> automatic.Chosen:
    """The recipe without `auto`, its sections checked, and what was chosen."""
    found = automatic.choose(recipe, check_checkpoint(base))
    refusals.check_sections(found.recipe)
    return found


def _principles(recipe: Recipe) -> tuple[Principle, ...]:
    path = recipe.refine.constitution
    return load_constitution(path) if path else ()


def _shots(recipe: Recipe) -> Shots:
    path = recipe.refine.shots
    return Shots(load_critique_shots(path) if path else ())


def _models(recipe: Recipe) -> tuple[Path, tuple[Path | str, ...], Path | str | None]:
    """(the checkpoint to train, the teachers, the judge): folders, servers' addresses.

    The judge is None where there is none, or where it is round 0's model, which is known only after
    a warm start.
    """
    if remote.is_address(recipe.model):
        raise RecipeError(
            f"model: {recipe.model} is a server, which cannot be trained. Name a checkpoint's"
            " folder here, servers under `teachers`."
        )
    base = resolve_model(recipe.model)
    refusals.check_students(recipe)
    if recipe.students.addresses:
        students.refuse_unfit(recipe.students.addresses, recipe.students.reload)
    judge = recipe.judge.model if recipe.judge else BASELINE
    watching = None if judge == BASELINE else _model(judge)
    return base, tuple(_model(name) for name in recipe.teachers), watching


def _model(name: str) -> Path | str:
    """A checkpoint's folder, or the address of a server, which is asked whether it answers."""
    if remote.is_address(name):
        remote.check(name)
        return name
    return resolve_model(name)


def practised(task: Task, recipe: Recipe) -> list[Problem]:
    """The training problems of the families that the recipe names.

    Raises:
        RecipeError: it names a family that the task has not.
    """
    # In the task's own order: `num_problems` takes the first, the same in every run.
    problems = task.problems("train")
    if recipe.task.families:
        refusals.check_families("task.families", recipe.task.families, problems)
        problems = [p for p in problems if p.family in recipe.task.families]
    return problems[: recipe.task.num_problems]
