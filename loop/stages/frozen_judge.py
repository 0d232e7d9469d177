"""The frozen judge: a model that never trains reads the probe's answers, criterion by criterion.

What the model in training says of itself drifts with it; a judge that is the same in every round
does not. It asks in the critic's words, greedily, and every answer's principle is drawn with a seed
that no round changes: what changes in its approvals is the judged model.

Source: a frozen preference model as evaluator, Bai et al. 2212.08073, section 3.3; here the judge
is a critic with a readable verdict, so no model of preferences is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ouroloop.evals import plugins
from ouroloop.loop.config import JudgeConfig, ProbeConfig, Recipe
from ouroloop.loop.config.judge import BASELINE
from ouroloop.loop.errors import DataError, NoAnswerError, RecipeError
from ouroloop.loop.records import Completion, Critique, Problem
from ouroloop.loop.rows import JudgementRow, ProbeRow
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.constitution import Principle, Shots
from ouroloop.loop.stages.dropped import Drops
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded

SOURCE = "judge"
"""A part of every request's id, beside the student's and the teachers'."""


@dataclass(frozen=True)
class Item:
    """A text of known truth: whether it deserves approval under a principle."""

    problem: Problem
    text: str
    principle: str
    approve: bool


@dataclass(frozen=True)
class Judge:
    """Who judges a run's answers, and by what.

    model: a checkpoint's folder or a server's address; None: round 0's model. criteria: criterion
    -> the principles of which one is drawn for each answer. items: what the judge is audited with.
    """

    config: JudgeConfig
    model: Path | str | None
    criteria: Mapping[str, tuple[Principle, ...]]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Case:
    """One question to the judge. truth: of a planted item; None for an answer."""

    problem: Problem
    index: int
    criterion: str
    principle: Principle
    text: str
    truth: bool | None = None


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
    # By default it judges by what the critic was told to look for.
    path = config.principles or recipe.refine.constitution
    if path is None:
        raise RecipeError(
            "judge: it needs principles to judge by. Name a constitution under judge.principles,"
            " or under refine.constitution."
        )
    criteria = _criteria(config, constitution.load_constitution(path), path)
    there = sorted({problem.family for problem in asked})
    for family in config.families:
        if family not in there:
            raise RecipeError(
                f"judge.families: no problem of the probe set is of family {family!r}."
                f" {plugins.nearest(family, there)}"
            )
    items = _items(config.items, criteria) if config.items else ()
    judge = Judge(config, model, criteria, items)
    refuse_the_same(recipe, judge, teachers)
    return judge


def _criteria(
    config: JudgeConfig, principles: Sequence[Principle], path: Path
) -> dict[str, tuple[Principle, ...]]:
    """Criterion -> its principles; without any named, every principle is one."""
    # A principle of the published format may have several critique requests under one name.
    by_name: dict[str, tuple[Principle, ...]] = {}
    for principle in principles:
        by_name[principle.name] = (*by_name.get(principle.name, ()), principle)
    if not config.criteria:
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


# -- in a round -----------------------------------------------------------------------


async def measure(
    refiner: Refiner,
    judge: Judge,
    rows: Sequence[ProbeRow],
    problems: Sequence[Problem],
    report: Progress,
) -> list[JudgementRow]:
    """The judge's verdicts on a round's answers; in round 0 also on the planted items.

    Args:
        refiner: of the round, on the engine that answers as the judge.
        judge: the run's judge.
        rows: the round's probe.
        problems: the probe set's.
        report: progress.
    """
    recipe, number = refiner.recipe, refiner.round
    num = _num_judged(judge.config, recipe.probe, refiner.is_baseline)
    by_id = {problem.id: problem for problem in problems}
    cases = list(_answers(judge, rows, by_id, num, recipe.seed))
    # A frozen judge is as good in every round: once is enough.
    if number == 0:
        cases += _planted(judge)
    asker, done = _pinned(refiner, judge.config), 0
    drops = Drops("judging", recipe.servers.max_dropped, len(cases))

    async def one(case: Case) -> JudgementRow:
        nonlocal done
        row = await _judged(asker, case, drops)
        done += 1
        report("judging", done, len(cases))
        return row

    # Each verdict is one request: the engine batches them as it does a round's samples.
    jobs = [one(case) for case in cases]
    found: list[JudgementRow] = await gather_bounded(jobs, recipe.engine.concurrency)
    return found


def _num_judged(config: JudgeConfig, probe: ProbeConfig, is_baseline: bool) -> int:
    """How many of a problem's answers are judged."""
    if not is_baseline:
        return config.samples
    # Baselines are compared with all later rounds: they are judged as they are probed.
    baseline_samples = probe.baseline_samples or 4 * probe.samples
    return max(1, config.samples * baseline_samples // probe.samples)


def _answers(
    judge: Judge,
    rows: Sequence[ProbeRow],
    problems: Mapping[str, Problem],
    num: int,
    seed: int,
) -> Iterator[Case]:
    seen: Counter[str] = Counter()
    for row in rows:
        if row.kind != "sample":
            continue
        index = seen[row.problem]
        seen[row.problem] += 1
        is_asked = not judge.config.families or row.family in judge.config.families
        # A cut answer has no end to judge; that it was cut is measured elsewhere.
        if index >= num or not is_asked or row.truncated:
            continue
        for criterion, principles in judge.criteria.items():
            # Not of this round: the same place is asked about the same principle every time.
            drawn = derive_seed(seed, 0, row.problem, f"{SOURCE}/{criterion}", index)
            principle = constitution.draw(principles, drawn)
            if principle is not None:
                yield Case(problems[row.problem], index, criterion, principle, row.text)


def _planted(judge: Judge) -> Iterator[Case]:
    # Under the first criterion that asks about the principle: the question is the same in all.
    first: dict[str, tuple[str, Principle]] = {}
    for criterion, principles in judge.criteria.items():
        for principle in principles:
            first.setdefault(principle.name, (criterion, principle))
    for item in judge.items:
        criterion, principle = first[item.principle]
        yield Case(item.problem, 0, criterion, principle, item.text, item.approve)


def _pinned(refiner: Refiner, config: JudgeConfig) -> Refiner:
    """The refiner that asks the judge: greedily, under the same request ids in every round."""
    greedy = {"critique_temperature": 0.0, "max_critique_tokens": config.max_tokens}
    refine = refiner.recipe.refine.model_copy(update=greedy)
    recipe = refiner.recipe.model_copy(update={"refine": refine})
    # A verdict is always asked for, also where revisions need none; worked critiques that end
    # without one would teach the judge to leave it out.
    prompts = replace(refiner.prompts, asks_verdict=True)
    return replace(refiner, recipe=recipe, prompts=prompts, round=0, source=SOURCE, shots=Shots())


async def _judged(refiner: Refiner, case: Case, drops: Drops) -> JudgementRow:
    text = Completion("", (), (), (), case.text, "stop", "")
    # `Refiner` measures without cut-offs what a stage named critique asks at temperature 0.
    stage = f"critique_{case.criterion}"
    try:
        critique = await refiner.criticise(case.problem, case.index, text, case.principle, stage)
    except NoAnswerError as error:
        drops.add(str(error))
        # Not known, as a verdict that cannot be read.
        critique = Critique(Completion("", (), (), (), "", "length", ""), None, None)
    asked = critique.completion
    return JudgementRow(
        problem=case.problem.id,
        family=case.problem.family,
        index=case.index,
        criterion=case.criterion,
        principle=case.principle.name,
        approved=_number(critique.approved),
        probability=critique.probability,
        num_tokens=float(len(asked.prompt_token_ids) + len(asked.token_ids)),
        truth=_number(case.truth),
        text=asked.text,
        num_sampled=float(len(asked.token_ids)),
    )


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)


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
    objectives = {recipe.at(number).objective.use for number in range(1, recipe.rounds + 1)}
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
