"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import rounds
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.estimand import OTHERS, Estimand
from ouroloop.monitors.names import Action, Tier


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table`, with general ability and whether the decision rule acts on it.

    General ability: pass@1 over the problems of all other families.
    """
    found = {r.number: r for r in read_run(path).rounds}
    return [{**row, **general(found[int(row["round"])])} for row in rounds.table(path)]


def general(found: RoundData) -> dict[str, float]:
    """The other families' pass@1, its paired change since round 0, and their greedy accuracy.

    Also the loss that the decision rule measures, and `named`: whether it is a reason to act.
    """
    # The reading's own change is paired by problem, so narrower than a difference of two rounds.
    reading = found.find(Estimand("accuracy/pass@1", OTHERS))
    change = (reading.details.get("change") if reading else None) or {}
    decision = Decision.from_json(found.decision)
    mine = [g for g in decision.guards if g.quantity == QuantityId.OTHER_FAMILIES]
    others = found.probe
    if len(others):
        others = others[(others["family"] != found.main_family) & (others["kind"] == "greedy")]
    return {
        "general_greedy": float(others["correct"].mean()) if len(others) else math.nan,
        "general": reading.value if reading else math.nan,
        **{f"change_{key}": _number(change.get(key)) for key in ("value", "low", "high")},
        "loss_in_tolerances": mine[0].loss_in_tolerances if mine else math.nan,
        "named": float(is_reason_to_act(decision, QuantityId.OTHER_FAMILIES)),
        "trained": float(found.train.get("status") != "skipped"),
    }


def is_reason_to_act(decision: Decision, quantity: QuantityId) -> bool:
    """Whether the rule acts on evidence of a loss in this quantity.

    It does when a stream of the quantity drives the evidence of the acting tier, or when the
    stream's own evidence reaches the tier's limit and this round shows a loss.
    """
    # HALT first: its action includes what WATCH's would do.
    tiers = [decision.evidence.get(tier) for tier in (Tier.HALT, Tier.WATCH)]
    acting = next((found for found in tiers if found and found.reached), None)
    if decision.action is Action.CONTINUE or acting is None:
        return False
    falling = {guard.stream for guard in decision.guards if guard.loss_in_tolerances > 0}
    for stream, log_e in acting.by_quantity.items():
        has_enough = log_e >= acting.log_limit and stream in falling
        if stream.quantity == quantity and (has_enough or stream == acting.driver):
            return True
    return False


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
