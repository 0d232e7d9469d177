"""What a round will do, given the recipe and the decisions so far. The interventions live here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from loop.config import Recipe
from loop.records import Decision


@dataclass(frozen=True)
class Plan:
    """One round's intentions. start_from: the round whose checkpoint training starts from; 0 is the base model.

    sample_from: the round whose checkpoint drafts. anchor_share: share of the training set that is re-injected, from demonstrations and,
    when `archive`, from the archive of rare strategies. per_strategy: share of kept samples per strategy at most. why: sentences.
    """

    round: int
    sample_from: int
    start_from: int
    temperatures: tuple[float, ...]
    anchor_share: float
    per_strategy: float | None
    archive: bool
    num_problems: int
    why: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "temperatures": list(self.temperatures), "why": list(self.why)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(**{**raw, "temperatures": tuple(raw["temperatures"]), "why": tuple(raw["why"])})


def next_plan(recipe: Recipe, number: int, plans: Sequence[Plan], decisions: Sequence[Decision], current: int, best: int) -> Plan:
    """The plan of round `number`.

    Args:
        recipe: the run's recipe.
        number: this round, from 1.
        plans: plans of rounds 1 .. number-1.
        decisions: decisions of rounds 0 .. number-1.
        current: the round whose checkpoint the run now stands on (0 = base).
        best: the best round so far, for `init: best` and for rolling back.
    """
    last = decisions[-1]
    if plans:
        plan = replace(plans[-1], round=number, why=())
    else:
        plan = Plan(
            number, 0, 0, recipe.sampling.temperatures, recipe.dataset.anchor_share, recipe.filters.per_strategy, False,
            recipe.sampling.problems_per_round, (),
        )
    if recipe.monitors.guard and last.action in ("reinject", "rollback"):
        plan = _reinject(plan, recipe, doubled=last.action == "rollback")
    if recipe.monitors.guard and last.action == "rollback":
        current = best
        plan = replace(plan, why=(*plan.why, f"rolled back: starting again from round {best}"))
    start = {"base": 0, "previous": current, "best": best}[recipe.init]
    return replace(plan, sample_from=current, start_from=start)


def lineage(plans: Sequence[Plan], start_from: int) -> list[int]:
    """The rounds that a checkpoint descends from, oldest first, itself included; the base model (0) descends from none."""
    chain: list[int] = []
    while start_from:
        chain.append(start_from)
        start_from = plans[start_from - 1].start_from
    return chain[::-1]


def _reinject(plan: Plan, recipe: Recipe, doubled: bool) -> Plan:
    """More real data and rare strategies, a cap per strategy, temperature up to at least 1 (monitors' evidence: sharpening comes from T < 1)."""
    limits = recipe.interventions
    share = max(limits.anchor_share, plan.anchor_share * (2.0 if doubled else 1.25 if plan.archive else 1.0))
    share = min(max(share, plan.anchor_share), max(limits.anchor_share_max, plan.anchor_share))
    cap = limits.per_strategy if plan.per_strategy is None else min(plan.per_strategy, limits.per_strategy or 1.0)
    temperatures = tuple(max(1.0, t) for t in plan.temperatures)
    why = [f"re-injected share of the training set {plan.anchor_share:.0%} -> {share:.0%}, from demonstrations and the archive of rare strategies"]
    if cap != plan.per_strategy:
        why.append(f"at most {cap:.0%} of the kept samples from one strategy")
    if temperatures != plan.temperatures:
        why.append(f"temperatures {list(plan.temperatures)} -> {list(temperatures)}")
    return replace(plan, anchor_share=share, per_strategy=cap, temperatures=temperatures, archive=True, why=tuple(why))
