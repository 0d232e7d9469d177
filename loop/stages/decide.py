"""From a round's tables to its readings and one decision: the loop's side of `monitors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ouroloop.loop.config import Recipe
from ouroloop.loop.drawn import Stopped
from ouroloop.loop.errors import RecipeError, RunStateError
from ouroloop.loop.recipes import extensions
from ouroloop.loop.round import Round
from ouroloop.loop.stages import costs
from ouroloop.loop.stages.preflight import adjusted
from ouroloop.loop.stages.train import weigh_rejection, weigh_starvation
from ouroloop.monitors.base import Monitor, Reading, RoundView, Samples
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.blocks import ScoreError
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.decision.tiers import check_history
from ouroloop.monitors.names import Action
from ouroloop.monitors.registry import MONITORS, measure_all, monitors_for

# Of five critiques none with a verdict: at most 45 % have one (95 %), and a round may keep some.
# Fewer say nothing. A halt costs a restart, a blind critic every round that follows.
FEWEST_CRITIQUES = 5
QUOTED = 60
"""Characters of a critique that a reason shows."""


def decision_rule(recipe: Recipe, main: str) -> DecisionRule:
    """The decision rule with the recipe's tolerances.

    Raises:
        RecipeError: a guarded quantity of the recipe's own cannot be part of it.
    """
    settings = recipe.monitors.model_dump(
        exclude={
            "guard",
            "gold",
            "canonicaliser",
            "clusters",
            "baselines",
            "metrics",
            "guarded",
            "budget",
        }
    )
    tolerances = {name: settings.pop(name) for name in guarded.tolerances()}
    extra = tuple(extensions.build_all(extensions.GUARDED, recipe.monitors.guarded))
    try:
        return DecisionRule(
            main_family=main,
            pass_k=recipe.probe.pass_at,
            rounds=recipe.rounds,
            max_rollbacks=recipe.interventions.max_rollbacks,
            min_kept=recipe.dataset.min_kept,
            draws=recipe.probe.draws,
            revised=recipe.refine.families,
            num_baselines=sum(a < recipe.rounds for a in recipe.monitors.baselines),
            extra=extra,
            tolerances=tolerances,
            **settings,
        )
    # The recipe's own values were checked as it was read.
    except ValueError as error:
        raise RecipeError(f"monitors.guarded: {error}") from error


def read(round: Round, baselines: Sequence[Round], main: str, recipe: Recipe) -> list[Reading]:
    """Every monitor's readings of the round, compared with round 0.

    They are the one table of the round's numbers: whatever shows one looks it up there.
    """
    reference = baselines[0].view if baselines else None
    measured = measure_all(round.view, reference, _monitors_of(round, main, recipe))
    return [*measured, *costs.read(round)]


def check_rule(round: Round) -> None:
    """Refuse to go on from a round that was decided under an earlier rule.

    Raises:
        RunStateError: its bets are not those of this rule.
    """
    try:
        check_history([round.decision])
    except ValueError as error:
        raise RunStateError(str(error)) from error


def decide(
    round: Round,
    baselines: Sequence[Round],
    rule: DecisionRule,
    history: Sequence[Round],
    recipe: Recipe,
) -> Decision:
    """What happens next, and whether it will be carried out.

    Args:
        round: the round.
        baselines: those before it.
        rule: the decision rule.
        history: the rounds before.
        recipe: of the run.

    Raises:
        RecipeError: a guarded quantity of the recipe's own breaks its contract.
    """
    is_scored = recipe.monitors.gold
    try:
        decision = rule.decide(
            guarded_view(round.view, is_scored),
            [guarded_view(baseline.view, is_scored) for baseline in baselines],
            _heard(round.readings),
            [past.decision for past in history],
            {baseline.number: baseline.readings for baseline in baselines},
        )
    except ScoreError as error:
        raise RecipeError(f"monitors.guarded: {error}") from error
    decision = weigh_critic(decision, round, recipe)
    decision = weigh_starvation(decision, round, recipe)
    decision = weigh_rejection(decision, round, history, recipe)
    carried_out = recipe.monitors.guard or decision.action == Action.CONTINUE
    return replace(
        decision,
        reasons=(*decision.reasons, *_drawn(round, recipe)),
        carried_out=carried_out,
    )


def weigh_critic(decision: Decision, round: Round, recipe: Recipe) -> Decision:
    """The decision of a baseline round whose critic wrote no verdict: the loop would keep nothing.

    Seen before a round is sampled, criticised and revised in vain.
    """
    asked = len(round.critics) if round.number == 0 and recipe.filters.critic else 0
    if asked < FEWEST_CRITIQUES or any(row.approved is not None for row in round.critics):
        return decision
    end = " ".join((round.critics[0].text or "").split())[-QUOTED:]
    why = (
        f"the critic ended none of {asked} critiques in a verdict that can be read (one ends:"
        f" {end!r}), and filters.critic keeps only what it approves: every round would keep"
        " nothing. Set filters.critic: false and refine.revise_when: always, so that every revision"
        " is learnt (as published), or take a model that follows the request"
    )
    return replace(decision, action=Action.HALT, reasons=(why, *decision.reasons))


def _drawn(round: Round, recipe: Recipe) -> tuple[str, ...]:
    """A sentence: that more was drawn, why, and how many samples all numbers are of."""
    if not round.has(Round.drawn) or round.drawn.num_draws == 1:
        return ()
    num = round.drawn.num_draws
    until = {
        Stopped.CALM: "it no longer was",
        Stopped.HALT: "HALT's limit was reached",
        Stopped.DRAWS: f"`probe.draws` ({recipe.probe.draws}) were made",
        Stopped.BUDGET: f"`monitors.budget` ({recipe.monitors.budget:.0%}) was used up",
    }[round.drawn.stopped]
    what = (
        f"the probe set was drawn {num} times ({num * recipe.probe.samples} samples a problem)"
        f" because the evidence was near a limit, until {until}"
    )
    return (what,)


def guarded_view(view: RoundView, is_scored: bool) -> RoundView:
    """What the guard sees of a round: without gold, no answer of it is right or wrong."""
    if is_scored:
        return view

    def unscored(samples: Samples) -> Samples:
        unknown = np.full(len(samples), np.nan)
        return replace(samples, correct=unknown, valid=unknown)

    draws = tuple(map(unscored, view.draws))
    return replace(view, probe=unscored(view.probe), draws=draws, greedy=None)


def _monitors_of(round: Round, main: str, recipe: Recipe) -> dict[str, Monitor]:
    """Every monitor, set up for this recipe and round."""
    probe = recipe.probe
    built_in = monitors_for(
        main,
        pass_k=probe.pass_at,
        majority_k=probe.majority,
        num_samples=probe.samples,
        temperature=probe.temperature,
        fresh_share=fresh_share(round, recipe.monitors.guard),
    )
    own = extensions.build_all(extensions.METRIC, recipe.monitors.metrics)
    return {**built_in, **{metric.name: metric for metric in own}}


def _heard(readings: Sequence[Reading]) -> list[Reading]:
    """The readings that the rule sees.

    A user's own metric that raises is shown, and ends no run.
    """
    # The reading of a monitor that raised has the monitor's name. A metric that takes a built-in
    # one's place by its name has to work: the rule counts on what it measures.
    return [r for r in readings if r.status != "error" or r.name in MONITORS]


def fresh_share(round: Round, guard: bool) -> float:
    """The replay fraction that the round's training set was made with.

    The plan's, or what the preflight check made of it; 0 in round 0, and where the round learns
    from preference pairs, which are its own.
    """
    if round.number == 0 or round.has(Round.pairs):
        return 0.0
    if not round.has(Round.preflight):  # a run of an earlier version
        return round.plan.replay_fraction
    return adjusted(round.plan, round.preflight, guard).replay_fraction
