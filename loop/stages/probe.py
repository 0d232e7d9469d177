"""The probe set through the engine: the same problems and sampling in every round.

The random draws are each round's own: one draw for all rounds would add up to false evidence.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Grade, Task
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.records import Completion, Problem
from ouroloop.loop.rows import CritiqueRow, ProbeRow
from ouroloop.loop.stages import clustering, constitution
from ouroloop.loop.stages.judging import Strategy, as_number, graded, judge_text
from ouroloop.loop.stages.naming import Learned
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded

# What was answered to one problem: its samples in order, then the greedy answer.
Answers = list[tuple[Literal["sample", "greedy"], Completion]]


@dataclass(frozen=True)
class ProbeSet:
    """The probe's problems in order; `main` is the family that the loop practises on.

    `heldout` are all questions that training must never see.
    """

    problems: tuple[Problem, ...]
    main: str
    heldout: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """What probe_set.json holds."""
        families: dict[str, list[str]] = defaultdict(list)
        for problem in self.problems:
            families[problem.family].append(problem.id)
        return {"main": self.main, "families": families, "heldout_questions": sorted(self.heldout)}


def choose_probe_set(task: Task, config: ProbeConfig) -> ProbeSet:
    """The first held-out problems of every family.

    `problems` of the main one, which most training problems are of, `family_problems` of others.
    """
    heldout = task.problems("heldout")
    main = _main_family(task.problems("train"), heldout)
    num_tail = None
    if config.tail_share is not None:
        there = sum(p.family == main and p.slice == "tail" for p in heldout)
        num_tail = min(round(config.tail_share * config.problems), there)
    # How many problems of each family, and of each slice of the main one, are still wanted.
    room = {_shelf(p, main, num_tail): config.family_problems for p in heldout}
    if num_tail is None:
        room[main, ""] = config.problems
    else:
        room[main, "tail"] = num_tail
        room[main, "typical"] = config.problems - num_tail
    chosen = []
    for problem in heldout:
        shelf = _shelf(problem, main, num_tail)
        if room[shelf] > 0:
            room[shelf] -= 1
            chosen.append(problem)
    return ProbeSet(tuple(chosen), main, frozenset(normalised(p.question) for p in heldout))


def _main_family(train: Sequence[Problem], heldout: Sequence[Problem]) -> str:
    """The family of most training problems; of most held-out ones where none is held out of it."""
    main = Counter(p.family for p in train).most_common(1)[0][0]
    if all(p.family != main for p in heldout):
        return Counter(p.family for p in heldout).most_common(1)[0][0]
    return main


def _shelf(problem: Problem, main: str, num_tail: int | None) -> tuple[str, str]:
    """What a problem is counted with.

    Its family, and in the main one its slice where the tail has a number of its own.
    """
    has_number = problem.family == main and num_tail is not None
    return problem.family, problem.slice if has_number else ""


async def measure(
    refiner: Refiner,
    probe_set: ProbeSet,
    task: Task,
    strategy: Strategy,
    report: Progress,
    responses: clustering.Responses | None = None,
) -> tuple[list[ProbeRow], list[CritiqueRow]]:
    """Answers to the probe set, and critiques of the main family's first samples.

    `samples` (in a baseline round: `baseline_samples`) at the probe's temperature and one greedy
    answer per problem.
    """
    num_fit = 0
    # Also when a cut-off round 0 had learned already: its journal answers, and the costs agree.
    if responses is not None and refiner.round == 0:
        num_fit = responses.samples
    answered = await _answered(refiner, probe_set, report, num_fit)
    found = [(p, given) for p, (given, _) in zip(probe_set.problems, answered, strict=True)]
    main = [(problem, given) for problem, given in found if problem.family == probe_set.main]
    if isinstance(strategy, Learned):
        # Before any name is read, and in round 0 alone; later calls change nothing.
        strategy.learn([(problem, text.text) for problem, given in main for _, text in given])
    if responses is not None and num_fit:
        # Of all families: a canned answer is the same text to every kind of prompt.
        responses.learn(
            [
                (problem, text.text)
                for problem, (_, spare) in zip(probe_set.problems, answered, strict=True)
                for text in spare
            ]
        )
    each = [(problem, kind, text) for problem, given in found for kind, text in given]
    labels = clustering.labels(responses, [(problem, text.text) for problem, _, text in each])
    rows = [
        replace(row_of(problem, kind, text, task, strategy), cluster=label)
        for (problem, kind, text), label in zip(each, labels, strict=True)
    ]
    spent = {
        problem.id: sum(len(text.token_ids) for text in spare)
        for problem, (_, spare) in zip(probe_set.problems, answered, strict=True)
    }
    rows = [_with_fit(row, spent[row.problem]) for row in rows]
    return rows, await _criticise(refiner, main, task, report)


async def _answered(
    refiner: Refiner, probe_set: ProbeSet, report: Progress, num_fit: int
) -> list[tuple[Answers, list[Completion]]]:
    """The answers to every problem of the probe set, in its order; `num_fit` more beside them."""
    config = refiner.recipe.probe
    # Baselines are compared with all later rounds, so their noise is paid for in each of these.
    num = config.num_baseline_samples if refiner.is_baseline else config.samples
    num_all = num + 1 + num_fit
    total, done = len(probe_set.problems) * num_all, 0
    report("probing", done, total)

    async def ask(problem: Problem) -> tuple[Answers, list[Completion]]:
        nonlocal done
        # The greedy answer's number stays what it is without a fit: seeds hang on the numbers.
        heats = [*[config.temperature] * num, 0.0, *[config.temperature] * num_fit]
        asked = [refiner.probe(problem, i, heat) for i, heat in enumerate(heats)]
        drawn = await asyncio.gather(*asked)
        done += num_all
        report("probing", done, total)
        answers: Answers = [("sample", text) for text in drawn[:num]]
        return [*answers, ("greedy", drawn[num])], drawn[num + 1 :]

    limit = max(1, refiner.recipe.engine.concurrency // num_all)
    answered: list[tuple[Answers, list[Completion]]] = await gather_bounded(
        [ask(problem) for problem in probe_set.problems], limit
    )
    return answered


async def _criticise(
    refiner: Refiner,
    answered: Sequence[tuple[Problem, Answers]],
    task: Task,
    report: Progress,
) -> list[CritiqueRow]:
    """Critiques of the problems' first samples, as many as the recipe wants, beside the truth."""
    # A critique that is not asked for a verdict has none to compare with the truth.
    if not refiner.recipe.refine.critique or not refiner.prompts.asks_verdict:
        return []
    # A cut answer has no end to judge.
    finished = [each for each in answered if each[1][0][1].finish_reason == "stop"]
    judged, done = finished[: refiner.recipe.probe.critiques], 0
    if judged:
        report("probing the critic", done, len(judged))

    async def one(problem: Problem, answers: Answers) -> CritiqueRow:
        nonlocal done
        seed = derive_seed(refiner.recipe.seed, 0, problem.id, "principle_probe", 0)
        principle = constitution.draw(refiner.principles, seed)
        critique = await refiner.criticise(problem, 0, answers[0][1], principle)
        correct, agreement = _truth(problem, answers, task)
        done += 1
        report("probing the critic", done, len(judged))
        return CritiqueRow(
            problem=problem.id,
            approved=as_number(critique.approved),
            probability=critique.probability,
            correct=as_number(correct),
            agreement=agreement,
            text=critique.completion.text,
            num_tokens=float(len(critique.completion.token_ids)),
        )

    rows: list[CritiqueRow] = await gather_bounded(
        [one(*each) for each in judged], refiner.recipe.engine.concurrency
    )
    return rows


def _truth(problem: Problem, answers: Answers, task: Task) -> tuple[bool | None, float | None]:
    """(whether the first sample is right, its answer's share among the other samples).

    Right: a right answer by right steps; where steps cannot be checked, a right answer.
    """
    first, *others = [text.text for kind, text in answers if kind == "sample"]
    read = judge_text(problem, first, task, lambda *_: None)
    correct, answer = read.grade.correct, read.grade.answer
    if correct is not None and read.valid is not None:
        correct = correct and read.valid
    agreement = None
    if answer is not None and others:
        grades = [graded(problem, text, task) for text in others]
        alike = [isinstance(grade, Grade) and grade.answer == answer for grade in grades]
        agreement = sum(alike) / len(alike)
    return correct, agreement


def row_of(
    problem: Problem,
    kind: Literal["sample", "greedy"],
    answer: Completion,
    task: Task,
    strategy: Strategy,
) -> ProbeRow:
    """One answer as a row, read by the task."""
    read = judge_text(problem, answer.text, task, strategy)
    nll = None
    if answer.logprobs:
        nll = -sum(answer.logprobs) / len(answer.logprobs)
    return ProbeRow(
        problem=problem.id,
        family=problem.family,
        slice=problem.slice,
        kind=kind,
        correct=as_number(read.grade.correct),
        valid=as_number(read.valid),
        strategy=read.strategy,
        answer=read.grade.answer,
        nll=nll,
        num_tokens=float(len(answer.token_ids)),
        truncated=float(answer.finish_reason == "length"),
        text=answer.text,
        unreadable=tuple(read.labels),
    )


def _with_fit(row: ProbeRow, num_tokens: int) -> ProbeRow:
    """A greedy answer says what was sampled of its problem beside it, for the fit alone."""
    if row.kind != "greedy" or not num_tokens:
        return row
    return replace(row, num_fit_tokens=float(num_tokens))
