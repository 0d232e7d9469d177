"""From a recipe to the things that a run needs, all checked before anything is made.

A wrong input must leave nothing half-made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ouroloop.evals.errors import DataError as TaskDataError
from ouroloop.evals.registry import build_task
from ouroloop.evals.tasks import Capability, Form, Prompts, Task
from ouroloop.loop import automatic, extensions
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.judge import BASELINE
from ouroloop.loop.engines import remote
from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives.registry import build_objective
from ouroloop.loop.reasoning import Reasoning, ThinkingTask, opens_thought
from ouroloop.loop.records import Problem
from ouroloop.loop.round import Round
from ouroloop.loop.stages import clustering, frozen_judge, warm_start
from ouroloop.loop.stages.constitution import (
    Principle,
    Shots,
    load_constitution,
    load_critique_shots,
)
from ouroloop.loop.stages.judging import Strategy
from ouroloop.loop.stages.naming import Learned, seeing, strategist
from ouroloop.loop.stages.preferring import Comparer
from ouroloop.loop.stages.probe import ProbeSet, choose_probe_set
from ouroloop.loop.stages.prompts import resolve_prompts
from ouroloop.loop.stages.texts import HeldOut, hold_out
from ouroloop.loop.stages.train import table_of


@dataclass(frozen=True)
class Setting:
    """What stays the same from the first round to the last.

    demonstrations: those that may be replayed; held_out: those that never are; warm_start: those
    that the warm start learns from. A teacher is a checkpoint's folder or a server's address.
    recipe: without `auto`; choices: what it became.
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
        demonstrations = warm_start.demonstrations(recipe, own, probe_set.heldout)
    except TaskDataError as error:
        raise DataError(str(error)) from error
    # Everything that can be known to be wrong is reported now: nothing half-made is left behind.
    check_capabilities(task, recipe)
    extensions.check_all(recipe)
    _check_problems(recipe, problems, task)
    # A server is asked whether it answers before anything is made; a checkpoint is looked into.
    base, teachers, judge_model = _models(recipe)
    recipe, choices = _chosen(recipe, base)
    judge = frozen_judge.judge_of(recipe, judge_model, teachers, probe_set.problems)
    others = (*teachers, judge_model)
    checkpoints = [base, *(model for model in others if isinstance(model, Path))]
    # One template for all that are asked: chat turns only where every checkpoint knows them.
    chat_template = all(has_chat_template(check_checkpoint(path)) for path in checkpoints)
    prompts = _prompts(task, recipe, chat_template)
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
        choices=choices,
        reasoning=reasoning,
        judge=judge,
        responses=_responses(task, recipe, probe_set, reasoning),
        shots=_shots(recipe),
    )


def _prompts(task: Task, recipe: Recipe, chat_template: bool) -> Prompts:
    reads_answers = Capability.ANSWERS in task.capabilities
    found = resolve_prompts(task.prompts, recipe.task.prompts, chat_template, reads_answers)
    refine = recipe.refine
    needs_verdict = refine.revise_when == "rejected" or recipe.filters.critic
    asks_verdict = refine.form is Form.PROMPTS or needs_verdict
    if recipe.dataset.learn_turns == "all" and not found.chat:
        raise RecipeError(
            "dataset.learn_turns: all needs a checkpoint with a chat template, whose turns end with"
            " a stop token; this one is asked plain text. Set it to last."
        )
    return replace(found, form=refine.form, asks_verdict=asks_verdict)


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
    _check_sections(found.recipe)
    return found


def _principles(recipe: Recipe) -> tuple[Principle, ...]:
    path = recipe.refine.constitution
    return load_constitution(path) if path else ()


def _shots(recipe: Recipe) -> Shots:
    path = recipe.refine.shots
    return Shots(load_critique_shots(path) if path else ())


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
    if recipe.filters.steps and Capability.STEPS not in task.capabilities:
        raise RecipeError(
            f"filters.steps: true, but the task {task.name} checks no steps. Set `filters:"
            " {steps: false}`."
        )


def _check_problems(recipe: Recipe, problems: Sequence[Problem], task: Task) -> None:
    """Refuse a recipe that asks for what the training problems do not have."""
    is_scored = Capability.UNAIDED in task.capabilities
    is_scored |= any(p.answer is not None for p in problems)
    if recipe.filters.gold and not is_scored:
        raise RecipeError(
            "filters.gold: no training problem has a gold answer. To filter without gold answers,"
            " set `filters: {gold: false, critic: true, agreement: 0.5}`."
        )
    if recipe.dataset.gold and not any(p.solution for p in problems):
        raise RecipeError("dataset.gold: true, but no training problem comes with a solution.")
    for number in _first_rounds(recipe):
        with _of_stage(recipe, number):
            if table_of(recipe, number) is Round.pairs:
                _check_pairs(recipe, is_scored)
    _check_families("refine.families", recipe.refine.families, problems)


def _check_sections(recipe: Recipe) -> None:
    """Refuse sections that contradict each other."""
    if not recipe.sampling.student and not recipe.teachers and not recipe.dataset.gold:
        raise RecipeError(
            "sampling.student: false: nobody drafts. Name `teachers`, or set `dataset.gold: true`"
            " to learn from gold traces alone."
        )
    if not recipe.refine.critique and recipe.filters.critic:
        raise RecipeError(
            "filters.critic: true needs refine.critique: true, or nothing would ever be approved."
        )
    if recipe.interventions.blend and recipe.lora:
        raise RecipeError(
            "interventions.blend: weights are blended of whole models only. Leave it 0 with a peft"
            " section."
        )
    if recipe.init == "best" and not recipe.monitors.gold:
        raise RecipeError(
            "init: best: the best round is the one with most right answers, which monitors.gold:"
            " false hides. Set `init: previous`."
        )
    _check_objectives(recipe)


def _check_objectives(recipe: Recipe) -> None:
    """Refuse an objective, of any stage, with wrong settings or with nothing to learn from."""
    for number in _first_rounds(recipe):
        held = recipe.at(number)
        with _of_stage(recipe, number):
            objective = build_objective(held.objective.use, held.objective.options)
            objective.check(held.trainer_settings, recipe.lora)


@contextmanager
def _of_stage(recipe: Recipe, number: int) -> Iterator[None]:
    """Names the stage of a round in what is wrong with it."""
    try:
        yield
    except RecipeError as error:
        where = f"stages.{recipe.stage_of(number) - 1}: " if recipe.stages else ""
        raise RecipeError(f"{where}{error}") from None


def _first_rounds(recipe: Recipe) -> list[int]:
    """The first round of each stage; round 1 where there are no stages."""
    firsts = [1]
    for stage in recipe.stages[:-1]:
        firsts.append(firsts[-1] + stage.rounds)
    return firsts


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
    judge = recipe.judge.model if recipe.judge else BASELINE
    watching = None if judge == BASELINE else _model(judge)
    return base, tuple(_model(name) for name in recipe.teachers), watching


def _model(name: str) -> Path | str:
    """A checkpoint's folder, or the address of a server, which is asked whether it answers."""
    if remote.is_address(name):
        remote.check(name)
        return name
    return resolve_model(name)


def _check_families(key: str, named: Sequence[str], problems: Sequence[Problem]) -> None:
    there = sorted({p.family for p in problems})
    unknown = [name for name in named if name not in there]
    if unknown:
        raise RecipeError(
            f"{key}: no training problem is of family {unknown[0]!r}. There are {', '.join(there)}."
        )


def practised(task: Task, recipe: Recipe) -> list[Problem]:
    """The training problems of the families that the recipe names.

    Raises:
        RecipeError: it names a family that the task has not.
    """
    # In the task's own order: `num_problems` takes the first, the same in every run.
    problems = task.problems("train")
    if recipe.task.families:
        _check_families("task.families", recipe.task.families, problems)
        problems = [p for p in problems if p.family in recipe.task.families]
    return problems[: recipe.task.num_problems]
