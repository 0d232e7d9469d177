"""The gate before training: what the filter is about to make of every strategy and answer.

And whether its verifier can be trusted at all.

One round ahead of every probe: share in the next model ~ (1 - fresh share) x selection ratio x
share now. Known from the pool alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from ouroloop.loop.config import Recipe
from ouroloop.loop.stages.plan import Plan
from ouroloop.monitors.base import AuditItems, Pool
from ouroloop.monitors.estimators.stats import UNDEFINED
from ouroloop.monitors.metrics.audit import error_rate
from ouroloop.monitors.metrics.selection import (
    SelectionRatio,
    fresh_share,
    ratios_of,
    selection_ratios,
)
from ouroloop.monitors.metrics.supply import starves

Action = Literal["pass", "mend", "block"]


@dataclass(frozen=True)
class Gate:
    """What the gate says of a round's kept samples.

    Anchor_share, per_answer: what the plan becomes by "mend".
    """

    action: Action
    reasons: tuple[str, ...]
    replay_fraction: float
    per_answer: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "reasons": list(self.reasons)}


def judge(
    pool: Pool | None, canaries: AuditItems | None, plan: Plan, recipe: Recipe, top_answer: float
) -> Gate:
    """Block, mend or pass.

    * block: the wrong items that the filter accepts are significantly more than
      `interventions.max_false_acceptance` allows, so more rounds would only teach what the verifier
      does not see.
    * a note, when fewer samples were kept than a training takes (`dataset.min_examples`), or the
      yield lies significantly below `monitors.min_yield`: the round's training set starves.
    * mend, where no gold answer verifies the samples: an answer that is common over problems
      (`interventions.per_answer`, or twice round 0's `top_answer`), or a strategy, is selected so
      strongly that it takes over under the planned fresh share: (1 - fresh share) R > 1, by the
      limits of all clusters at once. The answer is capped; for the strategy the fresh share is
      raised to 1 - 1/R.
    """
    limits = recipe.interventions
    share, per_answer = plan.replay_fraction, plan.per_answer
    if pool is None or not pool.kept.any():
        return Gate("pass", ("nothing was kept",), share, per_answer)
    wrong = error_rate(canaries, 0.0) if canaries is not None else UNDEFINED
    if np.isfinite(wrong.low) and wrong.low > limits.max_false_acceptance:
        told = (
            f"the filter accepts {wrong.value:.0%} of the planted wrong items (at least"
            f" {wrong.low:.0%}; tolerated {limits.max_false_acceptance:.0%}): training on what it"
            " keeps would teach its blind spots"
        )
        return Gate("block", (told,), share, per_answer)
    level = (
        1 - 2 * recipe.monitors.watch_alpha / recipe.rounds
    )  # as the panel judges it after the round
    hungry = starves(pool, recipe.monitors.min_yield, level, recipe.dataset.min_kept)
    reasons = [hungry] if hungry else []
    noted = len(reasons)
    growing = takeovers(selection_ratios(pool), share)
    if recipe.filters.gold:
        reasons += [
            f"{_told('strategy', r, share)}; its samples are verified, so this is noted only"
            for r in growing[:1]
        ]
        return Gate("pass", tuple(reasons), share, per_answer)
    common = max(limits.per_answer, 2 * top_answer if np.isfinite(top_answer) else 0.0)
    answers = [
        r
        for r in takeovers(
            ratios_of(_named(pool.answer), pool.problem, pool.kept, pool.correct), share
        )
        if r.raw_share > common
    ]
    if answers and (per_answer is None or per_answer > common):
        per_answer = common
        reasons.append(
            f"{_told('answer', answers[0], share)}: at most {common:.1%} of the kept samples may"
            " give one answer"
        )
    wanted = min(fresh_share(growing[0].ratio), limits.replay_fraction_max) if growing else 0.0
    if wanted > share:
        reasons.append(
            f"{_told('strategy', growing[0], share)}: re-injected share {share:.0%} -> {wanted:.0%}"
        )
        share = wanted
    return Gate("mend" if len(reasons) > noted else "pass", tuple(reasons), share, per_answer)


def takeovers(found: list[SelectionRatio], share: float) -> list[SelectionRatio]:
    """The clusters that grow under this fresh share, by the lower limits of all at once.

    The strongest first.
    """
    growing = [r for r in found if np.isfinite(r.all_low) and (1 - share) * r.all_low > 1]
    return sorted(growing, key=lambda r: -r.all_low)


def carried_out(plan: Plan, gate: Mapping[str, Any], guard: bool) -> Plan:
    """The plan as the gate mends it; unguarded: as it was."""
    return (
        replace(plan, replay_fraction=gate["replay_fraction"], per_answer=gate["per_answer"])
        if guard and gate["action"] == "mend"
        else plan
    )


def _told(kind: str, found: SelectionRatio, share: float) -> str:
    return (
        f"the filter multiplies the share of {kind} {found.cluster!r} ({found.raw_share:.1%} of the"
        f" samples) by {found.ratio:.2f} (at least {found.all_low:.2f}), more than a fresh share of"
        f" {share:.0%} holds back"
    )


def _named(answers: Any) -> Any:
    return np.array([a if isinstance(a, str) else "(none)" for a in answers], dtype=object)
