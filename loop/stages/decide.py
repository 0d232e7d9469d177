"""From a round's records to held-out scores, readings and one decision.

The loop's side of `ouroloop.evals.heldout` and `monitors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ouroloop.evals.heldout import scores_by_family
from ouroloop.loop import extensions
from ouroloop.loop.config import ProbeConfig, Recipe
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow
from ouroloop.loop.stages.preflight import adjusted
from ouroloop.monitors.base import Monitor, Reading, RoundView
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.metrics.drift import Drift
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.generalization import Generalization
from ouroloop.monitors.metrics.readings import some_samples
from ouroloop.monitors.metrics.texts import RealText
from ouroloop.monitors.names import Action, FailureMode
from ouroloop.monitors.registry import MONITORS, measure_all

MODES = {
    "A": FailureMode.DRIFT,
    "B": FailureMode.SHARPENING,
    "C": FailureMode.SHORTCUT,
    "D": FailureMode.TAIL_NARROWING,
}
"""The rule's letters, until it emits `FailureMode` itself."""


def held_out(rows: Sequence[ProbeRow], main: str, config: ProbeConfig) -> dict[str, Any]:
    """What evals.json holds: pass@1, pass@k, maj@k and greedy by family, with their intervals."""
    families = scores_by_family(
        [row.problem for row in rows],
        [row.family for row in rows],
        [row.correct for row in rows],
        [row.answer for row in rows],
        pass_k=config.pass_at,
        majority_k=config.majority,
        greedy=[row.kind == "greedy" for row in rows],
    )
    k = {"pass": config.pass_at, "majority": config.majority}
    return {"main": main, "k": k, "families": families}


def decision_rule(recipe: Recipe, main: str) -> DecisionRule:
    """The decision rule with the recipe's tolerances."""
    tolerances = recipe.monitors.model_dump(
        exclude={"guard", "canonicaliser", "baselines", "metrics", "guarded"}
    )
    return DecisionRule(
        main_family=main,
        pass_k=recipe.probe.pass_at,
        rounds=recipe.rounds,
        max_rollbacks=recipe.interventions.max_rollbacks,
        min_kept=recipe.dataset.min_kept,
        num_baselines=sum(a < recipe.rounds for a in recipe.monitors.baselines),
        also_guarded=tuple(extensions.build_all(extensions.GUARDED, recipe.monitors.guarded)),
        **tolerances,
    )


def read(
    round: Round, baselines: Sequence[Round], rule: DecisionRule, recipe: Recipe
) -> list[Reading]:
    """Every monitor's readings of the round, compared with round 0.

    The monitors see as many samples per problem in a baseline as in any other round: some readings
    (the over-confidence of a vote) are not the same thing with more.
    """
    alike = [_alike(seen.view, recipe.probe.samples) for seen in (round, *baselines[:1])]
    reference = alike[1] if baselines else None
    return measure_all(alike[0], reference, monitors_for(round, rule, recipe))


def decide(
    round: Round,
    baselines: Sequence[Round],
    rule: DecisionRule,
    history: Sequence[Round],
    recipe: Recipe,
) -> Decision:
    """What happens next, and whether it will be carried out.

    The rule sees all samples of a baseline. `history`: the rounds before this one.
    """
    decision = rule.decide(
        round.view,
        [baseline.view for baseline in baselines],
        _heard(round.readings, recipe),
        [past.decision for past in history],
    )
    is_carried_out = recipe.monitors.guard or Action(decision.action) is Action.CONTINUE
    return replace(
        decision,
        mode=MODES[decision.mode] if decision.mode else None,
        details={**decision.details, "carried_out": is_carried_out},
    )


def monitors_for(round: Round, rule: DecisionRule, recipe: Recipe) -> dict[str, Monitor]:
    """Every monitor, set up for this recipe and round."""
    temperature = recipe.probe.temperature
    return {
        **MONITORS,
        "accuracy": Generalization(k=recipe.probe.pass_at, main_family=rule.main_family),
        "entropy": TraceEntropy(temperature=temperature),
        "text": RealText(temperature=temperature),
        "drift": Drift(fresh_share=fresh_share(round, recipe.monitors.guard)),
        **own_metrics(recipe),
    }


def own_metrics(recipe: Recipe) -> dict[str, Monitor]:
    """The metrics that the recipe itself names, `monitors.metrics`."""
    built = extensions.build_all(extensions.METRIC, recipe.monitors.metrics)
    return {metric.name: metric for metric in built}


def _heard(readings: Sequence[Reading], recipe: Recipe) -> list[Reading]:
    """The readings that the rule sees: a user's own metric that raises is shown, and ends no run."""
    own = own_metrics(recipe)
    return [r for r in readings if r.status != "error" or r.name not in own]


def fresh_share(round: Round, guard: bool) -> float:
    """The replay fraction that the round's training set was made with.

    The plan's, or what the preflight check made of it; 0 in round 0.
    """
    if round.number == 0:
        return 0.0
    if not round.has(Round.preflight):  # a run of an earlier version
        return round.plan.replay_fraction
    return adjusted(round.plan, round.preflight, guard).replay_fraction


def _alike(view: RoundView, num_samples: int) -> RoundView:
    return replace(view, probe=some_samples(view.probe, num_samples))
