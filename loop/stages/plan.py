"""What a round will do, given the recipe and the rounds before it.

Which failure gets which remedy, and how much of it, is in `remedy.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from ouroloop.loop.best import best_round
from ouroloop.loop.config import FilterConfig, InterventionConfig, MonitorConfig, Recipe
from ouroloop.loop.records import Problem
from ouroloop.loop.round import Round
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.stages.remedy import Stock, remedy
from ouroloop.loop.stages.train import table_of
from ouroloop.monitors.decision.modes import remedied_as
from ouroloop.monitors.names import Action

# Before any round has left something to measure: the laws that need it are left out.
NOTHING_KNOWN = Stock()


def next_plan(recipe: Recipe, history: Sequence[Round], stock: Stock = NOTHING_KNOWN) -> RoundPlan:
    """The plan of the round after `history`.

    Args:
        recipe: the run's recipe.
        history: every round so far, round 0 first.
        stock: what the last rounds left for a remedy to work with.
    """
    last = history[-1]
    number = last.number + 1
    # What earlier remedies began goes on: a plan is the last one with what changes.
    plan = first_plan(recipe)
    if number > 1:
        # But for a blend, which is made once for each call.
        plan = replace(last.plan, round=number, why=(), blend=0.0, blend_with=0)
    current, action = last.number, Action(last.decision.action)
    if recipe.monitors.guard and action in (Action.REINJECT, Action.ROLLBACK):
        is_rejected = action is Action.ROLLBACK
        back = unharmed(history, recipe.monitors.gold)
        current = back if is_rejected else current
        replays = table_of(recipe, number) is not Round.pairs
        plan = remedy(
            plan,
            _limits(recipe),
            # By the quantity that spoke: the mode's name is only a reading of signs.
            remedied_as(last.decision.spoke),
            is_rejected,
            stock,
            back,
            baseline=_drawn_to(recipe, history, current, replays),
            replays=replays,
            starved=last.decision.starved and last.decision.spoke is None,
        )
        if is_rejected:
            plan = replace(plan, why=(*plan.why, f"rolled back: starting again from round {back}"))
    # STaR trains the base model anew in each round; others go on from the last or the best.
    starts = {"base": 0, "previous": current, "best": best_of(history)}
    plan = replace(plan, sample_from=current, start_from=starts[recipe.init])
    return _in_stage(plan, recipe)


def _drawn_to(
    recipe: Recipe, history: Sequence[Round], current: int, from_examples: bool
) -> int | None:
    """The round to whose weights the last remedy draws: the one that was compared with.

    A round that learns from examples learns again what a constitution is for. One that learns from
    pairs hardly does: it is never drawn to a round whose texts were not revised yet, but to the
    first on the way to the `current` one that wording is compared with, if any.
    """
    spoke, since = history[-1].decision.spoke, recipe.monitors.texts_since
    if spoke is None or spoke.baseline >= since or from_examples:
        return spoke.baseline if spoke else None
    found = [past.number for past in baselines(history, current, recipe.monitors)]
    return next((number for number in found if number >= since), None)


def _limits(recipe: Recipe) -> InterventionConfig:
    """The recipe's interventions; no blend where each round starts from round 0's weights."""
    limits = recipe.interventions
    return limits.model_copy(update={"blend": 0.0}) if recipe.init == "base" else limits


def _in_stage(plan: RoundPlan, recipe: Recipe) -> RoundPlan:
    """The plan with the stage that the recipe has for its round, named where it begins."""
    stage, num_stages = recipe.stage_of(plan.round), len(recipe.stages)
    objective = recipe.at(plan.round).objective.use
    why = plan.why
    if num_stages and (plan.round == 1 or stage != recipe.stage_of(plan.round - 1)):
        why = (*why, f"stage {stage} of {num_stages} begins: objective {objective}")
    if plan.replay_fraction and table_of(recipe, plan.round) is Round.pairs:
        # What a remedy began goes on with the next round that learns from examples.
        why = (*why, "preference pairs are the round's own: nothing is replayed beside them")
    return replace(plan, stage=stage, objective=objective, why=why)


def first_plan(recipe: Recipe) -> RoundPlan:
    """Round 1's plan, as the recipe says."""
    return RoundPlan(
        round=1,
        sample_from=0,
        start_from=0,
        temperatures=recipe.sampling.temperatures,
        replay_fraction=recipe.dataset.replay_fraction,
        per_strategy=recipe.filters.per_strategy,
        archive=False,
        num_problems=recipe.sampling.problems_per_round,
    )


def draw(problems: Sequence[Problem], plan: RoundPlan, seed: int) -> list[Problem]:
    """The round's problems: `num_problems` of them at random without repetition.

    Those of the tail slice are `tail_weight` times as likely each.

    Source: Efraimidis and Spirakis 2006 (weighted sampling without replacement).
    """
    rng = np.random.default_rng([seed, plan.round])
    weight_P = np.array([plan.tail_weight if p.slice == "tail" else 1.0 for p in problems])
    # The smallest of exponential waiting times with these rates is a weighted draw.
    order = np.argsort(-np.log(rng.random(len(problems))) / weight_P)
    return [problems[i] for i in order[: plan.num_problems]]


def filters_of(filters: FilterConfig, plan: RoundPlan) -> FilterConfig:
    """The recipe's rejection filters with the plan's caps, which never loosen the recipe's."""
    # The stricter of both caps: a remedy may tighten what the recipe says, never loosen it.
    per_answer = plan.per_answer
    if filters.per_answer is not None:
        per_answer = min(filters.per_answer, plan.per_answer or 1.0)
    per_cluster = plan.per_cluster
    if filters.per_cluster is not None:
        per_cluster = min(filters.per_cluster, plan.per_cluster or 1.0)
    changes = {
        "per_strategy": plan.per_strategy,
        "per_answer": per_answer,
        "per_cluster": per_cluster,
        "duplicates": "calculations" if plan.distinct else filters.duplicates,
    }
    return filters.model_copy(update=changes)


def best_of(history: Sequence[Round]) -> int:
    """The best round so far; round 0 when no other one is known to be."""
    found = best_round((past.number, past.score, past.decision.action) for past in history)
    return found or 0


def unharmed(history: Sequence[Round], gold: bool = True) -> int:
    """The round to roll back to.

    It has the highest score of those in which no guarded quantity was even seen beyond its
    tolerance; without gold, where no score is known, it is the last of them. Round 0 always is one.
    The most accurate round would be the wrong one: where a model sharpens, the last rounds before
    the alarm are the most accurate and already narrow.
    """
    safe = []
    for past in history:
        is_within = not any(guard.loss_in_tolerances > 1 for guard in past.decision.guards)
        is_accepted = past.decision.action in (Action.CONTINUE, Action.REINJECT)
        if is_accepted and is_within:
            safe.append(past)
    scored = [(past.score, -past.number) for past in safe if isfinite(past.score)]
    if gold and scored:
        return -max(scored)[1]
    return max((past.number for past in safe), default=0)


def lineage(history: Sequence[Round], start_from: int) -> list[Round]:
    """The rounds that a checkpoint descends from, oldest first, itself included.

    The base model (0) descends from none.
    """
    chain: list[Round] = []
    while start_from:
        chain.append(history[start_from])
        start_from = chain[-1].plan.start_from
    return chain[::-1]


def baselines(history: Sequence[Round], number: int, monitors: MonitorConfig) -> list[Round]:
    """The rounds that round `number` is compared with.

    Round 0, and those whose model has drafted on the way to this one: a round that a rollback left
    behind is no measure.
    """
    way = sorted(_way(history, number))
    return [history[past] for past in way if is_baseline(history, past, monitors)]


def is_baseline(history: Sequence[Round], number: int, monitors: MonitorConfig) -> bool:
    """Whether later rounds are compared with a round: one that the recipe names, or in its place.

    A rollback to before `texts_since` leaves behind the round with which wording is compared. The
    round that comes as far again, by the models that drafted on the way, takes its place. Only
    earlier decisions say so, nothing that it measures itself: it is not chosen for its noise.
    """
    is_named = number in monitors.baselines
    if is_named or not monitors.texts_since:
        return is_named
    way = _way(history, number)
    has_settled = any(past >= monitors.texts_since for past in way & {*monitors.baselines})
    return len(way) == monitors.texts_since and not has_settled


def _way(history: Sequence[Round], number: int) -> set[int]:
    """The rounds whose models drafted on the way to a round."""
    # `start_from` would lose the way where `init` is base.
    way, at = set[int](), number
    while at:
        at = history[at].plan.sample_from
        way.add(at)
    return way
