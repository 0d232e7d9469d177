"""Further draws of the probe set: more samples while the evidence is near a limit.

Every round draws the probe set once. While WATCH's evidence says that a loss may have begun
(`monitors/decision/drawing.py`), the same problems are answered again, `probe.samples` times each,
with seeds of their own: `probe.draws` times a round at most, and within `monitors.budget`. Baseline
rounds, which have more samples anyway, are drawn once.

All of it follows from what the run has on disk and from the journal's answers, so that an
interrupted round makes the same rows. A frozen judge is not asked about further draws.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ouroloop.evals.tasks import Task
from ouroloop.loop.config import Recipe
from ouroloop.loop.drawn import Drawn, FurtherRow, Stopped
from ouroloop.loop.records import Completion, Problem, Sample
from ouroloop.loop.round import Round
from ouroloop.loop.round_view import with_draws
from ouroloop.loop.rows import ProbeRow
from ouroloop.loop.stages import clustering
from ouroloop.loop.stages.decide import guarded_view
from ouroloop.loop.stages.judging import Strategy
from ouroloop.loop.stages.probe import ProbeSet, row_of
from ouroloop.loop.stages.refine import Progress, Refiner, gather_bounded
from ouroloop.monitors.decision.drawing import CALM, Nearness
from ouroloop.monitors.decision.rule import DecisionRule

if TYPE_CHECKING:  # a setting is made of the stages
    from ouroloop.loop.setup import Setting


async def measure(
    refiner: Refiner,
    setting: Setting,
    round: Round,
    baselines: Sequence[Round],
    history: Sequence[Round],
    rule: DecisionRule,
    report: Progress,
) -> tuple[list[FurtherRow], Drawn]:
    """The rows of all further draws, and why there are no more.

    Args:
        refiner: of the round.
        setting: the run's.
        round: its probe was drawn once.
        baselines: the rounds that it is compared with.
        history: the rounds before it.
        rule: the decision rule.
        report: progress.
    """
    recipe = refiner.recipe
    rows: list[FurtherRow] = []
    before, spent = _spent(round, history)
    one_draw = _tokens(row for row in round.probe if row.kind == "sample")
    begun: list[float] = []
    while True:
        num_draws = len(begun) + 1
        nearness = _nearness(refiner, round, rows, baselines, history, rule)
        begun.append(nearness.begun)
        extra = spent + _tokens(rows)
        # A draw costs about what the first one did.
        is_spent = extra + one_draw > recipe.monitors.budget * (before + extra + one_draw)
        stopped = _stopped(refiner, nearness, num_draws, is_spent)
        if stopped is not None:
            return rows, Drawn(num_draws, tuple(begun), stopped, before, extra)
        rows += await _draw(refiner, setting, num_draws, report)


def _stopped(
    refiner: Refiner, nearness: Nearness, num_draws: int, is_spent: bool
) -> Stopped | None:
    """Why there is no further draw; None: there is one."""
    if refiner.is_baseline:
        return Stopped.BASELINE
    if nearness.halts:
        return Stopped.HALT
    if not nearness.is_near:
        return Stopped.CALM
    if num_draws >= refiner.recipe.probe.draws:
        return Stopped.DRAWS
    return Stopped.BUDGET if is_spent else None


def _nearness(
    refiner: Refiner,
    round: Round,
    rows: Sequence[FurtherRow],
    baselines: Sequence[Round],
    history: Sequence[Round],
    rule: DecisionRule,
) -> Nearness:
    """What the decision rule says of the draws so far."""
    if not baselines or refiner.is_baseline:
        return CALM
    # A round that was cut off may have rows of further draws already: they are drawn again.
    first = round.view.by_draw()[0]
    view, *others = [
        guarded_view(each, refiner.recipe.monitors.gold)
        for each in (with_draws(first, round.probe, rows), *(b.view for b in baselines))
    ]
    return rule.nearness(view, others, [past.decision for past in history])


async def _draw(
    refiner: Refiner, setting: Setting, draw: int, report: Progress
) -> list[FurtherRow]:
    """One more draw of the whole probe set."""
    probe_set: ProbeSet = setting.probe_set
    task: Task = setting.task
    strategy: Strategy = setting.strategy
    num, heat = refiner.recipe.probe.samples, refiner.recipe.probe.temperature
    total, done = len(probe_set.problems) * num, 0
    label = f"probing again ({draw + 1} of {refiner.recipe.probe.draws} draws)"
    report(label, done, total)

    async def ask(problem: Problem) -> list[Completion]:
        nonlocal done
        # After the first draw's samples and the greedy answer: seeds hang on the numbers.
        first = draw * num + 1
        asked = [refiner.probe(problem, i, heat) for i in range(first, first + num)]
        texts = list(await asyncio.gather(*asked))
        done += num
        report(label, done, total)
        return texts

    limit = max(1, refiner.recipe.engine.concurrency // num)
    answered = await gather_bounded([ask(problem) for problem in probe_set.problems], limit)
    each = [
        (problem, text)
        for problem, texts in zip(probe_set.problems, answered, strict=True)
        for text in texts
    ]
    labels = clustering.labels(setting.responses, [(p, text.text) for p, text in each])
    rows = [row_of(problem, "sample", text, task, strategy) for problem, text in each]
    return [
        FurtherRow(**{**vars(row), "cluster": label}, draw=draw)
        for row, label in zip(rows, labels, strict=True)
    ]


def _spent(round: Round, history: Sequence[Round]) -> tuple[int, int]:
    """Tokens that the run has sampled so far but for further draws, and those of further draws."""
    now = _tokens(round.probe) + sum(map(_sampled, round.samples))
    if not history:
        return now, 0
    last = history[-1].drawn
    return last.sampled_tokens + now, last.further_tokens


def _sampled(sample: Sample) -> int:
    """Tokens of a sample from draft to revision."""
    texts = [sample.draft, *(c.completion for c in sample.critiques), *sample.revisions]
    return sum(len(text.token_ids) for text in texts)


def _tokens(rows: Iterable[ProbeRow]) -> int:
    return int(sum(row.num_tokens for row in rows))


def promised(recipe: Recipe, least: float | None) -> tuple[str, ...]:
    """A sentence for a plan: what further draws may cost and show; none where there are none.

    Args:
        recipe: the recipe.
        least: the fall of pass@1 that HALT notices with all draws in one round; None: not even a
            complete one.
    """
    probe = recipe.probe
    if probe.draws == 1:
        return ()
    shown = "not even a complete fall of pass@1"
    if least is not None:
        shown = f"a fall of pass@1 of {least:.3f}"
    what = (
        f"While the evidence is near a limit a round is drawn up to {probe.draws} times, within"
        f" {recipe.monitors.budget:.0%} of the run's sampled tokens (`monitors.budget`); about half"
        " a draw more a round where nothing is the matter. A round with all draws"
        f" ({probe.draws * probe.samples} samples a problem) shows HALT {shown} at once (chance"
        " 80 %)."
    )
    return (what,)
