"""The preflight check: can the verifier be trusted, and which strategy or answer would take over?

It looks one round ahead of every probe. A cluster's share in the next model is about
(1 - fresh share) x selection ratio x share now, which is known from the pool alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np

from ouroloop.loop.config import InterventionConfig, Recipe
from ouroloop.loop.round import Round
from ouroloop.loop.round_view import audit_of, pool_of
from ouroloop.loop.rows import Preflight, PreflightAction, RoundPlan, Verdict
from ouroloop.monitors.base import AuditItems, Pool
from ouroloop.monitors.estimators.stats import UNDEFINED
from ouroloop.monitors.metrics.audit import error_rate
from ouroloop.monitors.metrics.selection import (
    NO_NAME,
    SelectionRatio,
    fresh_share,
    ratios_of,
    selection_ratios,
)
from ouroloop.monitors.metrics.supply import starves


def check_round(
    round: Round,
    verdicts: Sequence[Verdict],
    recipe: Recipe,
    top_answer: float,
    top_cluster: float = nan,
    by_cluster: bool = False,
) -> Preflight:
    """The check of a round whose samples the filters would judge so.

    top_answer: share of the most repeated answer at round 0; such an answer is no shortcut.
    top_cluster: share of the largest response cluster of round 0's model, likewise.
    by_cluster: whether strategies' names tell the texts apart no more, see `goes_by_cluster`.
    """
    pool, audit = pool_of(verdicts), audit_of(round.audit)
    return check(pool, audit, round.plan, recipe, top_answer, top_cluster, by_cluster)


def check(
    pool: Pool | None,
    audit: AuditItems | None,
    plan: RoundPlan,
    recipe: Recipe,
    top_answer: float,
    top_cluster: float = nan,
    by_cluster: bool = False,
) -> Preflight:
    """Block, adjust or pass.

    * block: the wrong items that the filters accept are significantly more than
      `interventions.max_false_acceptance` allows, so more rounds would only teach what the verifier
      does not see.
    * a note, when fewer samples were kept than a training takes (`dataset.min_examples`), or the
      yield lies significantly below `monitors.min_yield`: the round's training set starves.
    * adjust, where no gold answer verifies the samples: an answer that is common over problems
      (`interventions.per_answer`, or twice round 0's `top_answer`), a response cluster
      (`interventions.per_cluster`, or round 0's `top_cluster`), or a strategy, is selected so
      strongly that it takes over under the planned fresh share: (1 - fresh share) R > 1, by the
      limits of all clusters at once. Answer and response cluster are capped; for the strategy the
      fresh share is raised to 1 - 1/R, unless `by_cluster`: then a name says nothing of a text.
    """
    # From the worst on: a verifier that accepts what is wrong makes every later question moot.
    passed = _passed(plan)
    if pool is None or not pool.kept.any():
        return replace(passed, reasons=("nothing was kept",), starved=True)
    blind = _blind(audit, recipe.interventions)
    if blind:
        return replace(passed, action=PreflightAction.BLOCK, reasons=(blind,))
    noted = _notes(pool, recipe)
    passed = replace(passed, starved=bool(noted))
    growing = takeovers(selection_ratios(pool), plan.replay_fraction)
    if recipe.filters.gold:
        return replace(passed, reasons=(*noted, *_verified(growing, plan.replay_fraction)))
    capped = _cap_answers(passed, pool, recipe.interventions, top_answer)
    capped = _cap_clusters(capped, pool, recipe.interventions, top_cluster)
    held = capped if by_cluster else _hold_back(capped, growing, recipe.interventions)
    if held == passed:
        return replace(passed, reasons=tuple(noted))
    return replace(held, action=PreflightAction.ADJUST, reasons=(*noted, *held.reasons))


def _verified(growing: list[SelectionRatio], share: float) -> list[str]:
    """A note where a strategy of verified samples takes over, which adjusts nothing.

    It may well be the better one: the decision rule judges the diversity that is lost.
    """
    return [
        f"{_sentence('strategy', ratio, share)}; its samples are verified, so this is noted only"
        for ratio in growing[:1]
    ]


def _passed(plan: RoundPlan) -> Preflight:
    """The check of a round that is carried out as planned."""
    return Preflight(
        PreflightAction.PASS,
        (),
        plan.replay_fraction,
        plan.per_answer,
        per_cluster=plan.per_cluster,
    )


def adjusted(plan: RoundPlan, found: Preflight, guard: bool) -> RoundPlan:
    """The plan that is carried out; unguarded: as it was."""
    if not guard or found.action is not PreflightAction.ADJUST:
        return plan
    return replace(
        plan,
        replay_fraction=found.replay_fraction,
        per_answer=found.per_answer,
        per_cluster=found.per_cluster,
    )


def takeovers(found: list[SelectionRatio], share: float) -> list[SelectionRatio]:
    """The clusters that grow under this fresh share, by the lower limits of all at once.

    The strongest first.
    """
    growing = [r for r in found if np.isfinite(r.all_low) and (1 - share) * r.all_low > 1]
    return sorted(growing, key=lambda r: -r.all_low)


def _blind(audit: AuditItems | None, limits: InterventionConfig) -> str:
    """Why the verifier cannot be trusted; empty when nothing speaks against it."""
    wrong = UNDEFINED if audit is None else error_rate(audit, 0.0)
    if not np.isfinite(wrong.low) or wrong.low <= limits.max_false_acceptance:
        return ""
    return (
        f"the filter accepts {wrong.value:.0%} of the planted wrong items (at least"
        f" {wrong.low:.0%}; tolerated {limits.max_false_acceptance:.0%}): training on what it"
        " keeps would teach its blind spots"
    )


def _notes(pool: Pool, recipe: Recipe) -> list[str]:
    """The sentence about a training set that starves, if it does."""
    # The level at which the decision rule judges the yield after the round.
    level = 1 - 2 * recipe.monitors.watch_alpha / recipe.rounds
    hungry = starves(pool, recipe.monitors.min_yield, level, recipe.dataset.min_kept)
    return [hungry] if hungry else []


def _cap_answers(
    found: Preflight, pool: Pool, limits: InterventionConfig, top_answer: float
) -> Preflight:
    """A cap on the share of one answer, where one takes over."""
    # An answer that was common at round 0 is how these problems are, not a shortcut.
    common = limits.per_answer
    if np.isfinite(top_answer):
        common = max(common, 2 * top_answer)
    ratios = ratios_of(_named(pool.answer), pool.problem, pool.kept, pool.correct)
    growing = [r for r in takeovers(ratios, found.replay_fraction) if r.raw_share > common]
    if not growing or (found.per_answer is not None and found.per_answer <= common):
        return found
    reason = (
        f"{_sentence('answer', growing[0], found.replay_fraction)}: at most {common:.1%} of what"
        " the other filters keep may give one answer"
    )
    return replace(found, per_answer=common, reasons=(*found.reasons, reason))


def _cap_clusters(
    found: Preflight, pool: Pool, limits: InterventionConfig, top_cluster: float
) -> Preflight:
    """A cap on the share of one response cluster, where one takes over."""
    common = limits.per_cluster
    if np.isfinite(top_cluster):
        common = max(common, top_cluster)
    ratios = takeovers(cluster_ratios(pool), found.replay_fraction)
    growing = [ratio for ratio in ratios if ratio.raw_share > common]
    if not growing or (found.per_cluster is not None and found.per_cluster <= common):
        return found
    reason = (
        f"{_sentence('response cluster', growing[0], found.replay_fraction)}: at most"
        f" {common:.1%} of the kept samples may belong to one response cluster"
    )
    return replace(found, per_cluster=common, reasons=(*found.reasons, reason))


def cluster_ratios(pool: Pool) -> list[SelectionRatio]:
    """Every response cluster's selection ratio; see `ratios_of`. Empty without clusters.

    Texts near no cluster have nothing in common: they cannot take over as one.
    """
    if pool.cluster is None:
        return []
    ratios = ratios_of(_named(pool.cluster), pool.problem, pool.kept, pool.correct)
    return [ratio for ratio in ratios if ratio.cluster != NO_NAME]


def _hold_back(
    found: Preflight, growing: list[SelectionRatio], limits: InterventionConfig
) -> Preflight:
    """A fresh share that holds the strongest strategy back, as far as the recipe allows."""
    if not growing:
        return found
    share = found.replay_fraction
    # What holds the strongest back holds the others back too.
    wanted = min(fresh_share(growing[0].ratio), limits.replay_fraction_max)
    if wanted <= share:
        return found
    reason = (
        f"{_sentence('strategy', growing[0], share)}: replay fraction {share:.0%} -> {wanted:.0%}"
    )
    return replace(found, replay_fraction=wanted, reasons=(*found.reasons, reason))


def _sentence(kind: str, found: SelectionRatio, share: float) -> str:
    return (
        f"the filter multiplies the share of {kind} {found.cluster!r} ({found.raw_share:.1%} of the"
        f" samples) by {found.ratio:.2f} (at least {found.all_low:.2f}), more than a fresh share of"
        f" {share:.0%} holds back"
    )


def _named(names: Any) -> Any:
    # Samples without an answer are a cluster of their own: they too can take over.
    return np.array([a if isinstance(a, str) else NO_NAME for a in names], dtype=object)
