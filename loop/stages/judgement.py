"""What the frozen judge makes of a round's answers to the probe set, criterion by criterion.

A model is asked in the critic's words, greedily, and every answer's principle is drawn with a seed
that no round changes; a scorer sees the same answers. So what changes in the approvals is the
judged model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ouroloop.loop.config import JudgeConfig, ProbeConfig
from ouroloop.loop.errors import NoAnswerError
from ouroloop.loop.records import Completion, Critique, Problem
from ouroloop.loop.rows import JudgementRow, ProbeRow
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.constitution import Principle, Shots
from ouroloop.loop.stages.dropped import Drops
from ouroloop.loop.stages.frozen_judge import Judge, score_of
from ouroloop.loop.stages.judging import as_number
from ouroloop.loop.stages.refine import Progress, Refiner, derive_seed, gather_bounded

SOURCE = "judge"
"""A part of every request's id, beside the student's and the teachers'."""


@dataclass(frozen=True)
class Case:
    """One question to the judge.

    principle: None for a scorer. truth: of a planted item; None for an answer.
    """

    problem: Problem
    index: int
    criterion: str
    principle: Principle | None
    text: str
    truth: bool | None = None


async def measure(
    refiner: Refiner,
    judge: Judge,
    rows: Sequence[ProbeRow],
    problems: Sequence[Problem],
    report: Progress,
) -> list[JudgementRow]:
    """The judge's verdicts on a round's answers; in round 0 also on the planted items.

    What a scorer raises on a text, and a score outside [0, 1], is not known, as an unreadable
    verdict is; the row's text says why.

    Args:
        refiner: of the round, on the engine that answers as the judge; scorers ask no engine.
        judge: the run's judge.
        rows: the round's probe.
        problems: the probe set's.
        report: progress.
    """
    recipe = refiner.recipe
    cases = _cases(refiner, judge, rows, problems)
    asker, done = _pinned(refiner, judge.config), 0
    drops = Drops("judging", recipe.servers.max_dropped, len(cases))
    if cases:
        report("judging", done, len(cases))

    async def one(case: Case) -> JudgementRow:
        nonlocal done
        row = _scored(judge, case) if judge.scorers else await _judged(asker, case, drops)
        done += 1
        report("judging", done, len(cases))
        return row

    # Each verdict is one request: the engine batches them as it does a round's samples.
    jobs = [one(case) for case in cases]
    found: list[JudgementRow] = await gather_bounded(jobs, recipe.engine.concurrency)
    return found


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
        principle=case.principle.name if case.principle else None,
        approved=as_number(critique.approved),
        probability=critique.probability,
        num_tokens=float(len(asked.prompt_token_ids) + len(asked.token_ids)),
        truth=as_number(case.truth),
        text=asked.text,
        num_sampled=float(len(asked.token_ids)),
    )


def _scored(judge: Judge, case: Case) -> JudgementRow:
    approved, why = score_of(case.criterion, judge.scorers[case.criterion], case.problem, case.text)
    return JudgementRow(
        problem=case.problem.id,
        family=case.problem.family,
        index=case.index,
        criterion=case.criterion,
        principle=None,
        approved=approved,
        probability=None,
        num_tokens=0.0,
        truth=as_number(case.truth),
        text=why,
        num_sampled=0.0,
    )


# -- which texts ------------------------------------------------------------------------


def _cases(
    refiner: Refiner, judge: Judge, rows: Sequence[ProbeRow], problems: Sequence[Problem]
) -> list[Case]:
    num = _num_judged(judge.config, refiner.recipe.probe, refiner.is_baseline)
    by_id = {problem.id: problem for problem in problems}
    cases = list(_answers(judge, rows, by_id, num, refiner.recipe.seed))
    # A frozen judge is as good in every round: once is enough.
    if refiner.round == 0:
        cases += _planted(judge)
    return cases


def _num_judged(config: JudgeConfig, probe: ProbeConfig, is_baseline: bool) -> int:
    """How many of a problem's answers are judged."""
    if not is_baseline:
        return config.samples
    # Baselines are compared with all later rounds: they are judged as they are probed.
    return max(1, config.samples * probe.num_baseline_samples // probe.samples)


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
            # Not of this round: the same place is asked about the same principle every time, and a
            # baseline's further answers about those of its first, or they would compare otherwise.
            place = index % judge.config.samples
            drawn = derive_seed(seed, 0, row.problem, f"{SOURCE}/{criterion}", place)
            principle = constitution.draw(principles, drawn)
            yield Case(problems[row.problem], index, criterion, principle, row.text)


def _planted(judge: Judge) -> Iterator[Case]:
    # Under the first criterion that asks about the principle: the question is the same in all.
    first: dict[str, tuple[str, Principle | None]] = {name: (name, None) for name in judge.scorers}
    for criterion, principles in judge.criteria.items():
        for principle in principles:
            first.setdefault(principle.name, (criterion, principle))
    for item in judge.items:
        yield Case(item.problem, 0, *first[item.principle], item.text, item.approve)
