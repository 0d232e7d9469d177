"""The frozen judge of a run: who it is, by which criteria it judges, and with what it is audited.

What the model in training says of itself drifts with it; a judge that is the same in every round
does not. `judgement.py` asks it.

Source: a frozen preference model as evaluator, Bai et al. 2212.08073, section 3.3; here the judge
is a critic with a readable verdict, or a scorer of one's own (a classifier, a preference model).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from ouroloop.evals import plugins
from ouroloop.evals.tasks import Scorer
from ouroloop.loop.config import JudgeConfig, Recipe
from ouroloop.loop.config.judge import BASELINE
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.recipes import extensions
from ouroloop.loop.records import Problem
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.constitution import Principle
from ouroloop.monitors.fence import Unreadable, attempt

PLAIN = "I do not know."
"""An answer that every scorer has to be able to read."""


@dataclass(frozen=True)
class Item:
    """A text of known truth: whether it deserves approval under a principle, or by a scorer."""

    problem: Problem
    text: str
    principle: str
    approve: bool


@dataclass(frozen=True)
class Judge:
    """Who judges a run's answers, and by what.

    model: a checkpoint's folder or a server's address; None: round 0's model, or nobody where there
    are scorers. criteria: criterion -> the principles of which one is drawn for each answer; none
    for a scorer. items: what the judge is audited with. scorers: criterion -> what scores by it.
    """

    config: JudgeConfig
    model: Path | str | None
    criteria: Mapping[str, tuple[Principle, ...]]
    items: tuple[Item, ...]
    scorers: Mapping[str, Scorer] = field(default_factory=dict)


# -- before the run ----------------------------------------------------------------


def judge_of(
    recipe: Recipe,
    model: Path | str | None,
    teachers: Sequence[Path | str],
    asked: Sequence[Problem],
) -> Judge | None:
    """The recipe's judge, its files read and its criteria checked.

    Args:
        recipe: the run's recipe; without a judge there is none.
        model: see `Judge`.
        teachers: checkpoints' folders or servers' addresses; none of them may watch and filter.
        asked: the probe set's problems.

    Raises:
        RecipeError: no principles are named, a criterion names one that is not there, no problem is
            of a named family, or the judge also chooses what is learnt.
        DataError: the principles or the items cannot be read.
    """
    config = recipe.judge
    if config is None:
        return None
    scorers = _scorers(recipe)
    criteria = dict.fromkeys(scorers, ()) or _criteria(config, recipe.refine.constitution)
    there = sorted({problem.family for problem in asked})
    for family in config.families:
        if family not in there:
            raise RecipeError(
                f"judge.families: no problem of the probe set is of family {family!r}."
                f" {plugins.nearest(family, there)}"
            )
    items = _items(config.items, criteria) if config.items else ()
    judge = Judge(config, model, criteria, items, scorers)
    if scorers:
        _refuse_broken(scorers, asked[0])
    else:
        refuse_the_same(recipe, judge, teachers)
    return judge


def _scorers(recipe: Recipe) -> dict[str, Scorer]:
    """Criterion -> the recipe's part that scores by it.

    Raises:
        RecipeError: one cannot be made, or also chooses what is learnt.
    """
    assert recipe.judge is not None
    named = recipe.judge.scorers
    filters = {each.use for each in recipe.filters.extra}
    for criterion, each in named.items():
        if each.use in filters:
            raise RecipeError(
                f"judge.scorers.{criterion}: {each.use} is also a rejection filter"
                " (filters.extra), so it decides what is learnt: the judge that watches must be"
                " another one than the one that filters. Name another in judge.scorers."
            )
    made = extensions.build_all(extensions.SCORER, tuple(named.values()))
    return dict(zip(named, made, strict=True))


def _refuse_broken(scorers: Mapping[str, Scorer], problem: Problem) -> None:
    """Refuse a scorer that cannot score a plain text: it would watch nothing to the run's end."""
    for criterion, scorer in scorers.items():
        if why := score_of(criterion, scorer, problem, PLAIN)[1]:
            raise RecipeError(
                f"judge.scorers.{criterion}: {type(scorer).__name__}.score cannot score {PLAIN!r}"
                f" as an answer to {problem.question[:60]!r}: {why}."
            )


def score_of(
    criterion: str, scorer: Scorer, problem: Problem, text: str
) -> tuple[float | None, str]:
    """A text's score, None where there is none; and why there is none that counts, else ""."""
    value = attempt(criterion, scorer.score, problem, text)
    if value is None:
        return None, ""
    if isinstance(value, Unreadable):
        return None, f"{value.label}: {value.message}"
    # numpy's numbers are no int or float, and register as Real.
    if isinstance(value, Real) and 0 <= float(value) <= 1:
        return float(value), ""
    return None, f"got {value!r}; expected a number from 0 to 1, or None where it cannot say"


def _criteria(config: JudgeConfig, usual: Path | None) -> dict[str, tuple[Principle, ...]]:
    """Criterion -> its principles; without any named, every principle is one."""
    # By default it judges by what the critic was told to look for.
    path = config.principles or usual
    if path is None:
        raise RecipeError(
            "judge: it needs principles to judge by. Name a constitution under judge.principles,"
            " or under refine.constitution; or what scores the answers, under judge.scorers."
        )
    principles = constitution.load_constitution(path)
    # A principle of the published format may have several critique requests under one name.
    by_name: dict[str, tuple[Principle, ...]] = {}
    for principle in principles:
        by_name[principle.name] = (*by_name.get(principle.name, ()), principle)
    if not config.criteria:
        for name in by_name:
            # As of judge.criteria, whose names are parts of a reading's id.
            if not name or ":" in name:
                raise RecipeError(
                    f"judge: {path}: the principle {name!r} needs a name without a colon to be a"
                    " criterion. Rename it, or name the criteria, e.g. judge.criteria: {harmless:"
                    f" [{name!r}]}}."
                )
        return by_name
    found = {}
    for criterion, names in config.criteria.items():
        for name in names:
            if name not in by_name:
                raise RecipeError(
                    f"judge.criteria.{criterion}: {path} has no principle {name!r}."
                    f" {plugins.nearest(name, list(by_name))}"
                )
        found[criterion] = tuple(each for name in names for each in by_name[name])
    return found


def _items(path: Path, criteria: Mapping[str, tuple[Principle, ...]]) -> tuple[Item, ...]:
    names = {principle.name for chosen in criteria.values() for principle in chosen}
    # A scorer has no principles: its criterion stands for them.
    names |= {criterion for criterion, chosen in criteria.items() if not chosen}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable (judge.items): {error}") from None
    return tuple(
        _item(f"{path}:{number}", number, line, names)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )


def _item(where: str, number: int, line: str, names: set[str]) -> Item:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error}") from None
    wanted = {"question": str, "text": str, "principle": str, "approve": bool}
    if not isinstance(raw, dict):
        raw = {}
    for key, kind in wanted.items():
        if not isinstance(raw.get(key), kind):
            raise DataError(
                f"{where}: {key!r} is {raw.get(key)!r}; expected a {kind.__name__}, as in"
                ' {"question": ..., "text": ..., "principle": ..., "approve": true}.'
            )
    if raw["principle"] not in names:
        raise DataError(
            f"{where}: no criterion of the judge asks about {raw['principle']!r}."
            f" {plugins.nearest(raw['principle'], sorted(names))}"
        )
    problem = Problem(id=f"item{number}", question=raw["question"], answer=None, family="")
    return Item(problem, raw["text"], raw["principle"], raw["approve"])


# -- who filters, and who watches -------------------------------------------------------


def refuse_the_same(recipe: Recipe, judge: Judge, teachers: Sequence[Path | str]) -> None:
    """Refuse a judge that also decides what is learnt: what pleases it would look good to it.

    Raises:
        RecipeError: a frozen model filters and watches.
    """
    # A teacher's drafts are criticised by the teacher itself.
    is_teacher = any(_servers(judge.model) & _servers(teacher) for teacher in teachers)
    if recipe.filters.critic and is_teacher:
        raise RecipeError(
            f"judge.model: {judge.config.model} is a teacher too, and filters.critic: true lets it"
            " choose what is learnt: the judge that watches must be another model than the one"
            " that filters. Name another in judge.model, or set `filters: {critic: false}`."
        )
    if recipe.filters.gold and _servers(judge.config.model) & _addresses(recipe.to_json()["task"]):
        raise RecipeError(
            f"judge.model: {judge.config.model} is also the grader's model (task.grader), and"
            " filters.gold: true lets it choose what is learnt: the judge that watches must be"
            " another model than the one that filters. Name another in judge.model."
        )
    objectives = {recipe.at(number).objective.use for number in recipe.first_rounds}
    compares = "dpo" in objectives and "compared" in recipe.pairs.sources
    if compares and recipe.pairs.judge == BASELINE and judge.model is None:
        raise RecipeError(
            "judge.model: baseline also chooses between two samples (pairs.judge: baseline), so it"
            " decides what is learnt: the judge that watches must be another model than the one"
            " that filters. Name another in judge.model, or set `pairs: {judge: student}`."
        )


def _servers(model: Path | str | None) -> set[Any]:
    """A checkpoint, or every address of a model behind servers."""
    return {*model.split()} if isinstance(model, str) else {model}


def _addresses(task: Mapping[str, Any]) -> set[str]:
    """The servers that the task's grader asks."""
    # A grader's options are its own: any that is an address may be its model.
    grader = task.get("grader")
    options = grader.get("options", {}) if isinstance(grader, dict) else {}
    return {value for value in options.values() if isinstance(value, str) and "://" in value}
