"""The fixed panel through the engine -> tables -> the RoundView that monitors read.

Same problems, same sampling in every round, with fresh luck.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Task
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.records import Completion, Problem
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.judging import Strategy, judge_text
from ouroloop.loop.stages.naming import Learned
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded
from ouroloop.monitors.base import AuditItems, Critics, Pool, RoundView, Samples, Texts

PROBE_SCHEMA = pa.schema(
    {
        "problem": pa.string(),
        "family": pa.string(),
        "slice": pa.string(),
        "kind": pa.string(),
        "correct": pa.float64(),
        "valid": pa.float64(),
        "strategy": pa.string(),
        "answer": pa.string(),
        "nll": pa.float64(),
        "num_tokens": pa.float64(),
        "truncated": pa.float64(),
        "text": pa.string(),
        "unreadable": pa.list_(pa.string()),
    }
)
CRITICS_SCHEMA = pa.schema(
    {
        "problem": pa.string(),
        "approved": pa.float64(),
        "probability": pa.float64(),
        "correct": pa.float64(),
        "agreement": pa.float64(),
        "text": pa.string(),
    }
)


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
    heldout, train = task.problems("heldout"), task.problems("train")
    main = Counter(p.family for p in train).most_common(1)[0][0]
    if all(p.family != main for p in heldout):
        main = Counter(p.family for p in heldout).most_common(1)[0][0]
    there = sum(p.family == main and p.slice == "tail" for p in heldout)
    num_tail = (
        None
        if config.tail_share is None
        else min(round(config.tail_share * config.problems), there)
    )
    room = {_shelf(p, main, num_tail): config.family_problems for p in heldout}
    room |= (
        {(main, ""): config.problems}
        if num_tail is None
        else {(main, "tail"): num_tail, (main, "typical"): config.problems - num_tail}
    )
    chosen = []
    for problem in heldout:
        shelf = _shelf(problem, main, num_tail)
        if room[shelf] > 0:
            room[shelf] -= 1
            chosen.append(problem)
    return ProbeSet(tuple(chosen), main, frozenset(normalised(p.question) for p in heldout))


def _shelf(problem: Problem, main: str, num_tail: int | None) -> tuple[str, str]:
    """What a problem is counted with.

    Its family, and in the main one its slice where the tail has a number of its own.
    """
    return problem.family, problem.slice if problem.family == main and num_tail is not None else ""


async def measure(
    refiner: Refiner,
    panel: ProbeSet,
    task: Task,
    config: ProbeConfig,
    strategy: Strategy,
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(probe rows, critic rows).

    `samples` (in an anchor: `baseline_samples`) at the probe's temperature and one greedy answer per
    problem, then critiques of the main family's first samples.
    """
    num = (
        config.samples
        if refiner.round not in refiner.recipe.monitors.baselines
        else config.baseline_samples or 4 * config.samples
    )
    total, done = len(panel.problems) * (num + 1), 0

    async def ask(problem: Problem) -> list[tuple[str, Completion]]:
        nonlocal done
        sampled = [refiner.probe(problem, i, config.temperature) for i in range(num)]
        answers = await asyncio.gather(*sampled, refiner.probe(problem, num, 0.0))
        done += len(answers)
        progress("probing", done, total)
        return [*(("sample", a) for a in answers[:-1]), ("greedy", answers[-1])]

    limit = max(1, refiner.recipe.engine.concurrency // (num + 1))
    answers = await gather_bounded([ask(p) for p in panel.problems], limit)
    if isinstance(strategy, Learned):
        strategy.learn(
            [
                (p, a.text)
                for p, found in zip(panel.problems, answers, strict=True)
                if p.family == panel.main
                for _, a in found
            ]
        )
    rows = [
        _row(p, kind, a, task, strategy)
        for p, found in zip(panel.problems, answers, strict=True)
        for kind, a in found
    ]
    judged = [
        (p, found)
        for p, found in zip(panel.problems, answers, strict=True)
        if p.family == panel.main and found[0][1].finish_reason == "stop"
    ]
    judged = judged[: config.critiques] if refiner.recipe.refine.critique else []
    critics = await _criticise(refiner, judged, task, progress)
    return rows, critics


async def _criticise(
    refiner: Refiner,
    judged: Sequence[tuple[Problem, list[tuple[str, Completion]]]],
    task: Task,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Critiques of each problem's first sample, beside the truth.

    Right answer by right steps (where steps cannot be checked: right answer).
    """
    done = 0

    async def one(problem: Problem, found: list[tuple[str, Completion]]) -> dict[str, Any]:
        nonlocal done
        principle = constitution.draw(
            refiner.principles,
            derive_seed(refiner.recipe.seed, 0, problem.id, "principle_probe", 0),
        )
        critique = await refiner.criticise(problem, 0, found[0][1], principle)
        read = [
            judge_text(problem, a.text, task, lambda *_: None)
            for kind, a in found
            if kind == "sample"
        ]
        grades, valid = [r.grade for r in read], read[0].valid
        correct = (
            grades[0].correct
            if grades[0].correct is None or valid is None
            else grades[0].correct and valid
        )
        agreement = (
            np.mean([g.answer == grades[0].answer for g in grades[1:]])
            if grades[0].answer is not None and len(grades) > 1
            else None
        )
        done += 1
        progress("probing the critic", done, len(judged))
        return {
            "problem": problem.id,
            "approved": _number(critique.approved),
            "probability": critique.probability,
            "correct": _number(correct),
            "agreement": agreement,
            "text": critique.completion.text,
        }

    return await gather_bounded([one(p, f) for p, f in judged], refiner.recipe.engine.concurrency)


def view(
    number: int,
    probe: Sequence[Mapping[str, Any]],
    critics: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
    texts: Sequence[Mapping[str, Any]] = (),
    canaries: Sequence[Mapping[str, Any]] = (),
) -> RoundView:
    """The monitors' view of a round, from its tables; an empty table is not there."""
    judged = None
    if critics:
        judged = Critics(
            _objects(critics, "problem"),
            *(
                _floats(critics, name)
                for name in ("approved", "probability", "correct", "agreement")
            ),
        )
    sampled = [r for r in probe if r["kind"] == "sample"]
    greedy = [r for r in probe if r["kind"] == "greedy"]
    scored = (
        Texts(
            _objects(texts, "problem"),
            *(_floats(texts, name) for name in ("nll", "entropy", "num_tokens")),
        )
        if texts
        else None
    )
    planted = (
        AuditItems(
            _objects(canaries, "problem"), _floats(canaries, "right"), _floats(canaries, "accepted")
        )
        if canaries
        else None
    )
    return RoundView(
        number,
        _samples(sampled),
        _samples(greedy),
        judged,
        _pool(verdicts) if verdicts else None,
        scored,
        planted,
    )


def _pool(verdicts: Sequence[Mapping[str, Any]]) -> Pool:
    return Pool(
        problem=_objects(verdicts, "problem_id"),
        strategy=_objects(verdicts, "strategy"),
        answer=_objects(verdicts, "answer"),
        correct=_floats(verdicts, "correct"),
        kept=np.array([bool(v["kept"]) for v in verdicts]),
        reason=np.array([v["reasons"][0] if v["reasons"] else "" for v in verdicts], dtype=object),
        valid=_floats(verdicts, "valid"),
        approved=_floats(verdicts, "approved"),
        text=_objects(verdicts, "text"),
        slice=_objects(verdicts, "slice") if "slice" in verdicts[0] else None,
    )


def _samples(rows: Sequence[Mapping[str, Any]]) -> Samples:
    texts = {
        name: _objects(rows, name)
        for name in ("problem", "family", "slice", "strategy", "answer", "text")
    }
    numbers = {
        name: _floats(rows, name) for name in ("correct", "valid", "nll", "num_tokens", "truncated")
    }
    return Samples(**texts, **numbers)


def _row(
    problem: Problem, kind: str, answer: Completion, task: Task, strategy: Strategy
) -> dict[str, Any]:
    read = judge_text(problem, answer.text, task, strategy)
    return {
        "problem": problem.id,
        "family": problem.family,
        "slice": problem.slice,
        "kind": kind,
        "correct": _number(read.grade.correct),
        "valid": _number(read.valid),
        "strategy": read.strategy,
        "answer": read.grade.answer,
        "nll": -sum(answer.logprobs) / len(answer.logprobs) if answer.logprobs else None,
        "num_tokens": float(len(answer.token_ids)),
        "truncated": float(answer.finish_reason == "length"),
        "text": answer.text,
        "unreadable": read.labels,
    }


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _objects(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    out = np.empty(len(rows), dtype=object)
    out[:] = [row[name] for row in rows]
    return out


def _floats(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    return np.array(
        [np.nan if row[name] is None else float(row[name]) for row in rows], dtype=float
    )
