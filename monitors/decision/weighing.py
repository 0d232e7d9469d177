"""One round's comparisons, added to the evidence of the rounds before, and what to do about it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import drawing, evidence, guarded, reasons, tiers
from ouroloop.monitors.decision.declaration import UNREVISED, is_wording, waiting
from ouroloop.monitors.decision.drawing import Nearness
from ouroloop.monitors.decision.evidence import Weight
from ouroloop.monitors.decision.guarded import Part
from ouroloop.monitors.decision.guards import Guard, Missing, Why
from ouroloop.monitors.decision.modes import attribute, attribute_free
from ouroloop.monitors.decision.records import (
    Audit,
    Decision,
    GuardReading,
    OfStream,
    RoundBets,
    StreamId,
    TierEvidence,
    Unmeasured,
)
from ouroloop.monitors.metrics.supply import starves
from ouroloop.monitors.names import NAMED_RIGHTLY, Action, FailureMode, Tier

if TYPE_CHECKING:
    from ouroloop.monitors.decision.rule import DecisionRule

LEFT_BEHIND = (
    "round {} is what this is compared with, and a rollback left it behind: the round that comes as"
    " far again takes its place"
)
LOSSES = tuple(np.linspace(0.01, 1.0, 100).tolist())
"""Shares of the samples that are tried as lost."""


def unmeasured_of(
    entries: Sequence[Guard | Missing],
    rule: DecisionRule,
    view: RoundView,
    baselines: Sequence[RoundView],
) -> tuple[Unmeasured, ...]:
    """The quantities on which nothing is bet in this round, each with its reason."""
    settled = rule.texts_since
    # Nothing that is revised is compared yet, or any more: that round is none of the baselines.
    is_open = all(baseline.round < settled for baseline in baselines)
    is_left_behind = is_open and settled < view.round
    why = LEFT_BEHIND.format(settled) if is_left_behind else waiting(settled)
    found = []
    for entry in entries:
        declared, part = guarded.declared_of(rule.guarded, entry.id.quantity)
        if is_open and part == UNREVISED:
            name = declared.called(entry.quantity.size)
            found.append(Unmeasured(declared.id, entry.id.baseline, name, why))
        if isinstance(entry, Guard) or entry.why is Why.LOST:
            continue
        is_idle = entry.why is Why.IDLE and is_wording(entry.id.quantity)
        reason = why if is_left_behind and is_idle else entry.reason
        found.append(Unmeasured(entry.id.quantity, entry.id.baseline, entry.quantity.name, reason))
    return tuple(found)


def lost_of(entries: Sequence[Missing], shown: Sequence[GuardReading]) -> list[str]:
    """That quantities are lost altogether; before them that no sample is answered, which is why."""
    lost = [
        f"{entry.quantity.name} was measured at the baseline and cannot be measured any more"
        for entry in entries
        if entry.why is Why.LOST
    ]
    answered = [each for each in shown if each.quantity == guarded.QuantityId.ANSWERED]
    if lost and answered and answered[0].after == 0:
        lost.insert(0, f"no sample of this round is answered: {reasons.change(answered[0])}")
    return lost


@dataclass(frozen=True)
class Weighing:
    """All that one decision depends on.

    Attributes:
        rule: the rule.
        view: the round.
        baselines: the first one first.
        draws: the quantities that were measured, draw by draw.
        idle: streams that this round cannot bet on.
        history: earlier decisions, oldest first.
    """

    rule: DecisionRule
    view: RoundView
    baselines: Sequence[RoundView]
    draws: Sequence[Sequence[Guard]]
    idle: Sequence[StreamId]
    history: Sequence[Decision]

    def decide(
        self,
        shown: tuple[GuardReading, ...],
        unmeasured: tuple[Unmeasured, ...],
    ) -> Decision:
        """The decision; `shown`, `unmeasured`: what it says of each quantity."""
        shown = self._with_resolution(shown)
        # Both tiers in every round, whichever acts: the record shows both.
        weights = {tier: self._weight(tier) for tier in Tier}
        found = {tier: self._evidence(tier, weights[tier]) for tier in Tier}
        entries: tuple[OfStream, ...] = (*shown, *unmeasured)
        names = {entry.stream: entry.name for entry in entries}
        audits = self._audits(names)
        sentences: list[str] = []
        mode = None
        # HALT first: its action includes what WATCH's would do.
        acting = next((tier for tier in (Tier.HALT, Tier.WATCH) if found[tier].reached), None)
        if acting is not None:
            mode = self._mode(found[acting].driver)
            head = reasons.head(acting, found[acting], self.rule.watch_share)
            first, *more = reasons.losses(weights[acting], found[acting], shown, names)
            sentences += [f"{head}: {first}", *more, *self._named(mode, found[acting].driver)]
        starved = self._starved()
        if starved:
            sentences.append(starved)
        action = self._action(acting, bool(starved))
        if action is Action.HALT:
            used, most = len(self._rollbacks), self.rule.max_rollbacks
            sentences.append(f"{used} of {most} rollbacks are used up")
        audited = reasons.latest(audits)
        # Without an action the audit is the news; with one, what called for it is.
        sentences = [*sentences, *audited] if sentences else [*audited, reasons.calm(shown)]
        sentences += self._covered(shown, unmeasured)
        return Decision(
            round=self.view.round,
            action=action,
            reasons=tuple(sentences),
            mode=mode,
            evidence=found,
            guards=shown,
            factors=self._bets,
            audits=audits,
            unmeasured=unmeasured,
            starved=bool(starved),
        )

    def nearness(self) -> Nearness:
        """How near the evidence is to a limit."""
        weight = self._weight(Tier.WATCH)
        num_rounds = len(self._past(Tier.WATCH)) + 1
        halt = self._evidence(Tier.HALT, self._weight(Tier.HALT))
        return Nearness(drawing.begun(weight, self.rule.rounds, num_rounds), halt.reached)

    def _action(self, acting: Tier | None, starved: bool) -> Action:
        if acting is Tier.HALT:
            used_up = len(self._rollbacks) >= self.rule.max_rollbacks
            return Action.HALT if used_up else Action.ROLLBACK
        if acting is Tier.WATCH or starved:
            return Action.REINJECT
        return Action.CONTINUE

    # ---- what was done before: evidence begins anew after an action ---------------------------

    @property
    def _done(self) -> list[Decision]:
        """Earlier actions that the evidence called for and that were carried out.

        A re-injection for want of examples alone is none: the evidence goes on through it, or a
        run that keeps little in every round would never gather any.
        """

        def counts(decision: Decision) -> bool:
            called = decision.action == Action.REINJECT and decision.spoke is not None
            return called or decision.action == Action.ROLLBACK

        return [d for d in self.history if d.carried_out and counts(d)]

    @property
    def _rollbacks(self) -> list[Decision]:
        return [d for d in self._done if d.action == Action.ROLLBACK]

    @property
    def _alpha(self) -> dict[Tier, float]:
        """HALT's alpha is shared out over the starts after each rollback; WATCH is not exact."""
        halt = evidence.spent(self.rule.alpha, len(self._rollbacks) + 1)
        return {Tier.WATCH: self.rule.watch_alpha, Tier.HALT: halt}

    def _past(self, tier: Tier) -> list[Decision]:
        """The rounds whose bets still count, oldest first."""
        # Either action ends WATCH's evidence; HALT's goes on through reinjections, which change the
        # model only a little, and ends with a rollback, which replaces it.
        ends = self._done if tier is Tier.WATCH else self._rollbacks
        last = max((d.round for d in ends), default=-1)
        return [d for d in self.history if d.round > last and d.factors is not None]

    # ---- evidence -----------------------------------------------------------------------------

    @cached_property
    def _bets(self) -> RoundBets:
        return self.rule.bets(self.draws, self.idle)

    def _weight(self, tier: Tier) -> Weight[StreamId]:
        past = [d.factors.of(tier) for d in self._past(tier) if d.factors is not None]
        now = self._bets.of(tier)
        first = guarded.first_shares(self.rule, self.baselines[0].round)
        # Planned, not present: the shares are fixed before the run.
        num_streams = self.rule.planned(list(now), tier)
        return evidence.weigh([*past, now], self.rule.rounds, num_streams, first, tiers.pay(tier))

    def _evidence(self, tier: Tier, weight: Weight[StreamId]) -> TierEvidence:
        rounds = [*(d.round for d in self._past(tier)), self.view.round]
        alpha = self._alpha[tier]
        limit = tiers.limit(tier, alpha)
        if not weight.by_stream:  # nothing is guarded
            return TierEvidence(weight.log_e, limit, alpha, None, self.view.round, {})
        return TierEvidence(
            log_e=weight.log_e,
            log_limit=limit,
            alpha=alpha,
            driver=weight.driver,
            since=rounds[weight.since],
            by_quantity=dict(weight.by_stream),
        )

    def _audits(self, names: Mapping[StreamId, str]) -> tuple[Audit, ...]:
        """Whether the quantity that drove each action is back within its tolerance.

        With the same guarantee as HALT's.
        """
        out = []
        now = self._bets.recover
        for decision in self._done:
            driver = decision.spoke
            # A quantity that is not measured, or whose baseline no longer belongs to the run's
            # line after a rollback, has no audit.
            if driver is None or driver not in now:
                continue
            # Only rounds after the action can show a recovery.
            later = [d for d in self.history if d.round > decision.round and d.factors is not None]
            bets = [*(d.factors.recover for d in later if d.factors is not None), now]
            rounds = [{driver: found[driver]} for found in bets if driver in found]
            log_e = evidence.weigh(rounds, self.rule.rounds).log_e
            out.append(
                Audit(
                    round=decision.round,
                    action=decision.action,
                    quantity=driver.quantity,
                    baseline=driver.baseline,
                    name=names[driver],
                    log_e=log_e,
                    rounds=self.view.round - decision.round,
                    recovered=log_e >= evidence.log_limit(self.rule.alpha),
                )
            )
        return tuple(out)

    # ---- what it means ------------------------------------------------------------------------

    def _mode(self, driver: StreamId | None) -> FailureMode | None:
        """The failure mode since the baseline of the driver."""
        rounds = {baseline.round: baseline for baseline in self.baselines}
        if driver is None or driver.baseline not in rounds:
            return None
        baseline = rounds[driver.baseline]
        # What scored samples show, and what unscored text shows, are read from other signs.
        if self._is_free(driver):
            _, part = guarded.declared_of(self.rule.guarded, driver.quantity)
            left_out = self.rule.revised if part == UNREVISED else ()
            return attribute_free(
                self.view, baseline, self.rule.main_family, driver.quantity, left_out
            )
        return attribute(self.view, baseline, self.rule.main_family, self.rule.tail_slice)

    def _named(self, mode: FailureMode | None, driver: StreamId | None) -> list[str]:
        """What the decline looks like, with what that name is worth."""
        if mode is None or driver is None:
            return []
        # Of scored runs alone it is known how often a name is right.
        rightly = None if self._is_free(driver) else NAMED_RIGHTLY.get(mode)
        return [reasons.named(mode, rightly)]

    def _covered(
        self, shown: tuple[GuardReading, ...], unmeasured: tuple[Unmeasured, ...]
    ) -> list[str]:
        """What is guarded: who reads "continue" of unscored text must know what was looked at."""
        if any(self._is_free(guard.id) for guard in self.draws[0]):
            return [reasons.coverage(shown, unmeasured)]
        return []

    def _is_free(self, stream: StreamId) -> bool:
        """Whether it is measured without any gold answer."""
        declared, _ = guarded.declared_of(self.rule.guarded, stream.quantity)
        return declared.part in (Part.UNSCORED, Part.APPROVED, Part.TEXTS)

    def _with_resolution(self, shown: tuple[GuardReading, ...]) -> tuple[GuardReading, ...]:
        """The guards of unscored text with the losses that one round shows."""
        known = {guard.id: guard for guard in self.draws[0] if self._is_free(guard.id)}
        return tuple(
            replace(entry, seen_from=self._seen_from(known[entry.stream]))
            if entry.stream in known
            else entry
            for entry in shown
        )

    def _seen_from(self, guard: Guard) -> float:
        """The least loss beyond this round's that WATCH would call by this quantity alone."""
        stream, share = guard.stream, self.rule.watch_share
        nothing = np.where(np.isfinite(stream.block_PRM), 0.0, np.nan)
        now = tiers.growth(stream, Tier.WATCH, share)
        worst = tiers.growth(replace(stream, block_PRM=nothing), Tier.WATCH, share)
        first = guarded.first_shares(self.rule, self.baselines[0].round)
        num_streams = self.rule.planned([each.id for each in self.draws[0]], Tier.WATCH)
        limit = tiers.limit(Tier.WATCH, self.rule.watch_alpha)
        pay = tiers.pay(Tier.WATCH)

        def is_called(lost: float) -> bool:
            # By expectation, where each sample is lost with this chance.
            found = (1 - lost) * now + lost * worst
            if stream.is_nearly_normal:
                left = replace(stream, block_PRM=(1 - lost) * stream.block_PRM)
                found = tiers.growth(left, Tier.WATCH, share)
            growth = {guard.id: tiers.flat(found)}
            weight = evidence.weigh([growth], self.rule.rounds, num_streams, first, pay)
            return weight.log_e >= limit

        # The more is lost, the more every bet gains.
        at = bisect_left(LOSSES, True, key=is_called)
        return LOSSES[at] if at < len(LOSSES) else 2.0

    def _starved(self) -> str:
        """The sentence when too little was kept, else ""."""
        pool = self.view.pool
        if pool is None or not len(pool.kept):
            return ""
        # One-sided, and WATCH's alpha is split over the rounds: a two-sided interval has two ends.
        level = 1 - 2 * self.rule.watch_alpha / self.rule.rounds
        return starves(pool, self.rule.min_yield, level, self.rule.min_kept) or ""
