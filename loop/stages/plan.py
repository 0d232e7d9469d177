"""What a round will do, given the recipe and the decisions so far.

The interventions live here: which failure gets which remedy, how much.

How much to re-inject follows two laws of populations under selection, both held by the monitors'
simulations: sampling at temperature T keeps balanced strategies alive only while the fresh share is
above 1 - T, and a cluster whose share the filter multiplies by R cannot take over while it is above
1 - 1/R. 3 / (n p) of n examples hold a strategy of share p with 95 % (the rule of three).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from ouroloop.loop.config import FilterConfig, InterventionConfig, Recipe
from ouroloop.loop.records import Decision, Problem
from ouroloop.monitors.metrics import selection
from ouroloop.monitors.metrics.drift import fresh_share_at
from ouroloop.monitors.names import FailureMode


@dataclass(frozen=True)
class Plan:
    """One round's intentions. start_from: the round whose checkpoint training starts from.

    0 is the base model.

    sample_from: the round whose checkpoint drafts. teachers: rounds whose checkpoints draft a share
    of the problems beside it. replay_fraction: share of the training set that is re-injected.
    demonstrations: share of that which is real demonstrations drawn evenly; once `archive`, the
    rest is whatever brings the strategies back to round 0's shares, verified samples of earlier
    rounds first. distinct: one kept sample per distinct calculation of a problem. per_strategy,
    per_answer: share of the kept samples that one strategy, one answer may have. tail_weight: how
    much likelier problems of the tail slice are drawn. blend: weight of round 0's parameters in
    what training starts from. why: sentences.
    """

    round: int
    sample_from: int
    start_from: int
    temperatures: tuple[float, ...]
    replay_fraction: float
    per_strategy: float | None
    archive: bool
    num_problems: int
    why: tuple[str, ...] = ()
    distinct: bool = False
    per_answer: float | None = None
    tail_weight: float = 1.0
    blend: float = 0.0
    teachers: tuple[int, ...] = ()
    demonstrations: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Stock:
    """What the amount of a remedy depends on; NaN where it is not known.

    num_kept: samples kept in the last round. rarest: smallest share of a strategy alive among round
    0's right answers. selection: upper limit of the largest selection ratio in the last round's
    pool. top_answer: share of the most repeated answer at round 0.
    """

    num_kept: int = 0
    rarest: float = float("nan")
    selection: float = float("nan")
    top_answer: float = float("nan")


def next_plan(
    recipe: Recipe,
    number: int,
    plans: Sequence[Plan],
    decisions: Sequence[Decision],
    current: int,
    best: int,
    back: int = 0,
    stock: Stock = Stock(),
) -> Plan:
    """The plan of round `number`.

    Args:
        recipe: the run's recipe.
        number: this round, from 1.
        plans: plans of rounds 1 .. number-1.
        decisions: decisions of rounds 0 .. number-1.
        current: the round whose checkpoint the run now stands on (0 = base).
        best: the best round so far, for `init: best`.
        back: the round to roll back to.
        stock: what the last rounds left.
    """
    last, rolled_back = decisions[-1], False
    if plans:
        plan = replace(plans[-1], round=number, why=())
    else:
        plan = Plan(
            number,
            0,
            0,
            recipe.sampling.temperatures,
            recipe.dataset.replay_fraction,
            recipe.filters.per_strategy,
            False,
            recipe.sampling.problems_per_round,
        )
    if recipe.monitors.guard and last.action in ("reinject", "rollback"):
        rolled_back = last.action == "rollback"
        current = back if rolled_back else current
        plan = remedy(plan, recipe.interventions, last.mode, rolled_back, stock, back)
        if rolled_back:
            plan = replace(plan, why=(*plan.why, f"rolled back: starting again from round {back}"))
    start = {"base": 0, "previous": current, "best": best}[recipe.init]
    return replace(plan, sample_from=current, start_from=start)


def draw(problems: Sequence[Problem], plan: Plan, rng: np.random.Generator) -> list[Problem]:
    """The round's problems: `num_problems` of them at random without repetition.

    Those of the tail slice `tail_weight` times as likely each.
    """
    weight_P = np.array([plan.tail_weight if p.slice == "tail" else 1.0 for p in problems])
    order = np.argsort(-np.log(rng.random(len(problems))) / weight_P)  # Efraimidis & Spirakis 2006
    return [problems[i] for i in order[: plan.num_problems]]


def gates(filters: FilterConfig, plan: Plan) -> FilterConfig:
    """The recipe's gates with the plan's caps."""
    return filters.model_copy(
        update={
            "per_strategy": plan.per_strategy,
            "per_answer": (
                plan.per_answer
                if filters.per_answer is None
                else min(filters.per_answer, plan.per_answer or 1.0)
            ),
            "duplicates": "calculations" if plan.distinct else filters.duplicates,
        }
    )


def strategy_shares(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Share of each strategy among the right samples of a probe table.

    Those below 1 % are no strategies to be kept alive.
    """
    count = Counter(
        row["strategy"]
        for row in rows
        if row["kind"] == "sample" and row["correct"] == 1 and row["strategy"] is not None
    )
    shares = {name: num / count.total() for name, num in sorted(count.items())}
    return {name: share for name, share in shares.items() if share >= 0.01}


def unharmed(decisions: Sequence[Decision], scores: Sequence[float]) -> int:
    """The round to roll back to: the highest score of those in which no guarded quantity was even seen beyond its tolerance. Round 0 always is one.

    The most accurate round would be the wrong one: where a model sharpens, the last rounds before
    the alarm are the most accurate and already narrow.
    """
    safe = [
        (score, -decision.round)
        for decision, score in zip(decisions, scores, strict=True)
        if decision.action in ("continue", "reinject")
        and not any(guard.loss_in_tolerances > 1 for guard in decision.guards)
    ]
    return -max((pair for pair in safe if isfinite(pair[0])), default=(0.0, 0))[1]


def lineage(plans: Sequence[Plan], start_from: int) -> list[int]:
    """The rounds that a checkpoint descends from, oldest first, itself included.

    The base model (0) descends from none.
    """
    chain: list[int] = []
    while start_from:
        chain.append(start_from)
        start_from = plans[start_from - 1].start_from
    return chain[::-1]


def anchors(plans: Sequence[Plan], number: int, chosen: Sequence[int]) -> list[int]:
    """The rounds of `chosen` that round `number` is held against.

    Round 0, and those whose model has drafted on the way to this one.
    """
    way, at = set(), number
    while at:
        at = plans[at - 1].sample_from
        way.add(at)
    return [a for a in chosen if a in way]


def fresh_share(temperatures: Sequence[float], stock: Stock) -> float:
    """The least share of fresh data: max(0.10, 1 - T, 1 - 1/R, 3 / (n p)), of what is known."""
    laws = [0.10, fresh_share_at(min(temperatures))]
    if isfinite(stock.selection):
        laws.append(selection.fresh_share(stock.selection))
    if stock.num_kept and isfinite(stock.rarest) and stock.rarest > 0:
        laws.append(3 / (stock.num_kept * stock.rarest))
    return max(laws)


def remedy(
    plan: Plan,
    limits: InterventionConfig,
    mode: FailureMode | None,
    doubled: bool,
    stock: Stock,
    back: int,
) -> Plan:
    """The plan with what helps against the named failure; what was begun before goes on.

    Every mode: more fresh data; what real data there was stays, and what brings back the lost comes
    on top. Sharpening, and no name: temperature up, distinct calculations only, a cap per strategy.
    Shortcut: a cap per answer. Tail narrowing: more problems of the tail. Drift and sharpening:
    earlier checkpoints as further teachers, and weights blended with round 0's, where the recipe
    allows them.
    """
    new, why = plan, []
    if mode in (FailureMode.SHARPENING, None):
        temperatures = tuple(max(limits.temperature, t) for t in plan.temperatures)
        cap = (
            limits.per_strategy
            if plan.per_strategy is None
            else min(plan.per_strategy, limits.per_strategy or 1.0)
        )
        new = replace(new, temperatures=temperatures, per_strategy=cap, distinct=True)
    if mode == FailureMode.SHORTCUT:
        twice = 2 * stock.top_answer if isfinite(stock.top_answer) else limits.per_answer
        new = replace(new, per_answer=max(twice, limits.per_answer))
    if mode == FailureMode.TAIL_NARROWING:
        new = replace(new, tail_weight=max(plan.tail_weight, limits.tail_weight))
    if mode in (FailureMode.DRIFT, FailureMode.SHARPENING):
        teachers = tuple(dict.fromkeys((back, 0)))[: limits.teachers]
        new = replace(new, teachers=teachers, blend=max(plan.blend, limits.blend))
    share = max(
        limits.replay_fraction,
        fresh_share(new.temperatures, stock),
        plan.replay_fraction * (2.0 if doubled else 1.25 if plan.archive else 1.0),
    )
    standing = plan.replay_fraction * plan.demonstrations
    share = min(
        max(share, standing + share * (1 - limits.demonstrations)),
        max(limits.replay_fraction_max, plan.replay_fraction),
    )
    new = replace(
        new,
        archive=True,
        replay_fraction=share,
        demonstrations=max(limits.demonstrations, standing and standing / share),
    )
    words = {
        "replay_fraction": "re-injected share of the training set",
        "temperatures": "temperatures",
        "per_strategy": "cap per strategy",
        "per_answer": "cap per answer",
        "distinct": "distinct calculations only",
        "tail_weight": "weight of the tail's problems",
        "teachers": "earlier rounds that draft too",
        "blend": "weight of round 0's parameters in the start",
        "demonstrations": "of it demonstrations drawn evenly",
    }
    for key, text in words.items():
        before, after = getattr(plan, key), getattr(new, key)
        if before != after:
            why.append(f"{text}: {_shown(before)} -> {_shown(after)}")
    return replace(new, why=tuple(why))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{v:g}' for v in value)}]"
    return (
        "none"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else f"{value:.3g}"
    )
