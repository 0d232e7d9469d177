"""From a round's tables to its readings and one decision: the loop's side of `monitors`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.records import Action, Decision
from ouroloop.loop.stages.plan import Stock
from ouroloop.loop.store import once_json, read_json
from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.metrics.readings import of
from ouroloop.monitors.metrics.selection import largest_ratio, selection_ratios
from ouroloop.monitors.registry import measure_all, monitors_for


def measure(
    view: RoundView,
    anchors: Sequence[RoundView],
    folder: Path,
    main: str,
    recipe: Recipe,
) -> list[Reading]:
    """Read the round with every monitor against round 0 (readings.json).

    That file is the one table of the round's numbers: whatever shows one looks it up there.
    """
    monitors = monitors_for(
        main,
        pass_k=recipe.probe.pass_at,
        majority_k=recipe.probe.majority,
        num_samples=recipe.probe.samples,
        temperature=recipe.probe.temperature,
        fresh_share=fresh_share(folder, recipe.monitors.guard),
    )
    raw = once_json(
        folder / "readings.json",
        lambda: [
            reading.to_json()
            for reading in measure_all(view, anchors[0] if anchors else None, monitors)
        ],
    )
    return [Reading.from_json(row) for row in raw]


def main_score(readings: Sequence[Reading], main: str) -> float:
    """The main family's pass@1; NaN when undefined."""
    score = Estimand("accuracy/pass@1", main)
    return next((r.value for r in readings if r.estimand == score), math.nan)


def panel(recipe: Recipe, main: str) -> DecisionRule:
    """The decision rule with the recipe's tolerances."""
    tolerances = recipe.monitors.model_dump(exclude={"guard", "canonicaliser", "baselines"})
    return DecisionRule(
        main_family=main,
        pass_k=recipe.probe.pass_at,
        rounds=recipe.rounds,
        max_rollbacks=recipe.interventions.max_rollbacks,
        min_kept=recipe.dataset.min_kept,
        num_baselines=sum(a < recipe.rounds for a in recipe.monitors.baselines),
        **tolerances,
    )


def decide(
    rule: DecisionRule,
    view: RoundView,
    anchors: Sequence[RoundView],
    readings: Sequence[Reading],
    history: Sequence[Decision],
    recipe: Recipe,
) -> dict[str, Any]:
    """Decide, and say whether the decision will be carried out."""
    decision = asdict(rule.decide(view, anchors, readings, history))
    guard = recipe.monitors.guard
    return {
        **decision,
        "details": {
            **decision["details"],
            "carried_out": guard or decision["action"] == "continue",
        },
    }


def fresh_share(folder: Path, guard: bool) -> float:
    """The re-injected share that the round's training set was made with.

    The plan's, or what the gate made of it.
    """
    gate = read_json(folder / "preflight.json") if (folder / "preflight.json").exists() else {}
    mended = guard and gate.get("action") == "mend"
    return float((gate if mended else read_json(folder / "plan.json")).get("replay_fraction", 0.0))


def stock(view: RoundView, anchor: RoundView, shares: Mapping[str, float], main: str) -> Stock:
    """What the round left for a remedy to work with."""
    largest = (
        largest_ratio(selection_ratios(view.pool))
        if view.pool is not None and view.pool.kept.any()
        else None
    )
    asked = of(anchor.probe, "family", main)
    answers = Counter(a for a in asked.answer if isinstance(a, str))
    return Stock(
        num_kept=int(view.pool.kept.sum()) if view.pool is not None else 0,
        rarest=min(shares.values(), default=math.nan),
        selection=largest[2] if largest else math.nan,
        top_answer=max(answers.values(), default=0) / max(len(asked), 1),
    )


def from_json(raw: Mapping[str, Any]) -> Decision:
    """A Decision from decision.json."""
    action: Action = raw["action"]
    return Decision(raw["round"], action, tuple(raw["reasons"]), raw["mode"], raw["details"])
