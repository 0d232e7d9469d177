"""The controller's step `measure`: a round's model on real texts and on the probe set.

What a round has is read, what it lacks is made, in the order in which the files stand below.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ouroloop.loop.round import Round
from ouroloop.loop.stages import further, judgement, probe, texts, traces

if TYPE_CHECKING:  # the controller imports this file
    from ouroloop.loop.controller import Campaign


async def measure(run: Campaign, round: Round) -> None:
    """Everything that is measured of a round's model."""
    setting, model = run.setting, run.checkpoint(round.number)
    if round.lacks(Round.texts):
        await run.serving.serve(model)
        held_out = setting.held_out.texts
        round.texts = await texts.measure(run.engine, setting.prompts, held_out, run.report)
    # `critics` is written last: a probe without it was cut off, and is made again.
    if round.lacks(Round.critics):
        await run.serving.serve(model)
        refiner = run.refiner(round, (run.recipe.probe.temperature,))
        round.probe, round.critics = await probe.measure(
            refiner,
            setting.probe_set,
            setting.task,
            setting.strategy,
            run.report,
            setting.responses,
        )
    if round.lacks(Round.traces):
        await run.serving.serve(model)
        round.traces = await traces.measure(run.engine, setting, run.rounds[0], run.report)
    if run.recipe.probe.draws > 1 and round.lacks(Round.drawn):
        await _draw_again(run, round)
    await _ask_the_judge(run, round)


async def _draw_again(run: Campaign, round: Round) -> None:
    """Further draws of the probe set, while the evidence is near a limit."""
    await run.serving.serve(run.checkpoint(round.number))
    rows, drawn = await further.measure(
        run.refiner(round, (run.recipe.probe.temperature,)),
        run.setting,
        round,
        run.baselines(round),
        run.history,
        run.rule(),
        run.report,
    )
    # Most rounds are drawn once, and have no such table.
    if rows:
        round.further = rows
        run.event("drawn_again", round, draws=drawn.num_draws, stopped=drawn.stopped)
    round.drawn = drawn


async def _ask_the_judge(run: Campaign, round: Round) -> None:
    """What the frozen judge says of the round's answers, if the recipe has one."""
    judge, problems = run.setting.judge, run.setting.probe_set.problems
    if judge is None or not round.lacks(Round.judgements):
        return
    model, student = judge.model or run.checkpoint(0), run.checkpoint(round.number)
    # Scorers are no model: what is served stays.
    asking = nullcontext(run.engine) if judge.scorers else run.serving.asking(model, student)
    async with asking as engine:
        refiner = run.refiner(round, (0.0,), engine=engine)
        round.judgements = await judgement.measure(
            refiner, judge, round.probe, problems, run.report
        )
