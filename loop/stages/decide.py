"""From a round's tables to held-out scores, readings and one decision.

The loop's side of `ouroloop.evals.heldout` and `monitors`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ouroloop.evals.heldout import scores_by_family
from ouroloop.loop.config import ProbeConfig, Recipe
from ouroloop.loop.records import Decision
from ouroloop.loop.stages.plan import Stock
from ouroloop.loop.store import once_json, read_json
from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.metrics.drift import Drift
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.generalization import Generalization
from ouroloop.monitors.metrics.readings import of, some_samples
from ouroloop.monitors.metrics.selection import largest_ratio, selection_ratios
from ouroloop.monitors.metrics.texts import RealText
from ouroloop.monitors.names import Action
from ouroloop.monitors.registry import MONITORS, measure_all


def held_out(rows: Sequence[Mapping[str, Any]], main: str, config: ProbeConfig) -> dict[str, Any]:
    """What evals.json holds: pass@1, pass@k, maj@k and greedy by family.

    With clustered intervals.
    """
    families = scores_by_family(
        *([row[name] for row in rows] for name in ("problem", "family", "correct", "answer")),
        pass_k=config.pass_at,
        majority_k=config.majority,
        greedy=[row["kind"] == "greedy" for row in rows],
    )
    return {
        "main": main,
        "k": {"pass": config.pass_at, "majority": config.majority},
        "families": families,
    }


def main_score(evals: Mapping[str, Any]) -> float:
    """The main family's pass@1; NaN when undefined."""
    value = evals["families"].get(evals["main"], {}).get("pass@1", {}).get("value")
    return math.nan if value is None else float(value)


def panel(recipe: Recipe, main: str) -> DecisionRule:
    """The decision rule with the recipe's tolerances."""
    settings = recipe.monitors.model_dump(exclude={"guard", "canonicaliser", "baselines"})
    tolerances = {name: settings.pop(name) for name in guarded.tolerances()}
    return DecisionRule(
        main_family=main,
        pass_k=recipe.probe.pass_at,
        rounds=recipe.rounds,
        max_rollbacks=recipe.interventions.max_rollbacks,
        min_kept=recipe.dataset.min_kept,
        num_baselines=sum(a < recipe.rounds for a in recipe.monitors.baselines),
        tolerances=tolerances,
        **settings,
    )


def decide(
    rule: DecisionRule,
    view: RoundView,
    anchors: Sequence[RoundView],
    folder: Path,
    history: Sequence[Decision],
    recipe: Recipe,
) -> dict[str, Any]:
    """Read the round with every monitor against round 0 (readings.json), decide.

    And say whether the decision will be carried out.

    The panel sees all samples of an anchor, the monitors as many per problem as in any other round:
    some readings (the over-confidence of a vote) are not the same thing with more.
    """
    temperature = recipe.probe.temperature
    monitors = {
        **MONITORS,
        "accuracy": Generalization(k=recipe.probe.pass_at, main_family=rule.main_family),
        "entropy": TraceEntropy(temperature=temperature),
        "text": RealText(temperature=temperature),
        "drift": Drift(fresh_share=fresh_share(folder, recipe.monitors.guard)),
    }
    alike = [
        replace(v, probe=some_samples(v.probe, recipe.probe.samples)) for v in (view, *anchors[:1])
    ]
    readings = measure_all(alike[0], alike[1] if anchors else None, monitors)
    once_json(folder / "readings.json", lambda: [asdict(r) for r in readings])
    decision = rule.decide(view, anchors, readings, history)
    carried_out = recipe.monitors.guard or decision.action == Action.CONTINUE
    return replace(decision, carried_out=carried_out).to_json()


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
    return Decision.from_json(raw)
