"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import rounds
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.estimators.estimand import OTHERS, Estimand
from ouroloop.monitors.names import Action


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table`, with general ability and what the decision rule says of it.

    General ability: pass@1 over the problems of all other families.
    """
    found = {r.number: r for r in read_run(path).rounds}
    return [{**row, **general(found[int(row["round"])])} for row in rounds.table(path)]


def general(found: RoundData) -> dict[str, float]:
    """pass@1 of the other families, its paired change since round 0, their greedy accuracy.

    And the loss that the decision rule sees.

    named: the rule acts and names it among its reasons.
    """
    # The reading's own change is paired by problem, so narrower than a difference of two rounds.
    reading = found.find(Estimand("accuracy/pass@1", OTHERS))
    change = (reading.details.get("change") if reading else None) or {}
    guards = found.decision.get("guards") or []
    guard: dict[str, Any] = next(
        (g for g in guards if g["quantity"] == QuantityId.OTHER_FAMILIES), {}
    )
    name = guard.get("name")
    others = (
        found.probe[
            (found.probe["family"] != found.main_family) & (found.probe["kind"] == "greedy")
        ]
        if len(found.probe)
        else found.probe
    )
    return {
        "general_greedy": float(others["correct"].mean()) if len(others) else math.nan,
        "general": reading.value if reading else math.nan,
        **{f"change_{key}": _number(change.get(key)) for key in ("value", "low", "high")},
        "loss_in_tolerances": _number(guard.get("loss_in_tolerances")),
        "named": float(
            found.action != Action.CONTINUE
            and any(name and name in str(reason) for reason in found.decision.get("reasons", ()))
        ),
        "trained": float(found.train.get("status") != "skipped"),
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
