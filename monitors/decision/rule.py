"""From a round to one decision, with its reasons. Knows nothing of the loop.

Two tiers of e-processes (`evidence.py`) against the frozen anchor, each over all guarded quantities
at once: WATCH (a quarter of every tolerance, alpha 0.20: cheap, reversible actions) and HALT (the
whole tolerance, alpha 0.05: back to a good checkpoint, or the end). Guarantee: in a run in which no
guarded quantity is ever worse than tolerated, P(any HALT) <= alpha, whatever the number of rounds
and however the quantities hang together. It rests on the panel's samples being drawn afresh every
round, and on the anchor's mean lying within the normal limits that a fifth of alpha pays for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.copies import copies
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.guards import Guard, Idle, Quantity
from ouroloop.monitors.decision.modes import attribute
from ouroloop.monitors.metrics.readings import as_json
from ouroloop.monitors.metrics.supply import kept_share, nothing_passes, starves

SINCE = ", since round "
Action = Literal["continue", "reinject", "rollback", "halt"]
Factors = dict[str, dict[str, list[float]]]
"""watch, halt, recover -> quantity -> log growth of each bet."""


class Decided(Protocol):
    """What the panel needs to know of an earlier decision."""

    @property
    def round(self) -> int:
        """Its round."""
        ...

    @property
    def action(self) -> str:
        """continue, reinject, rollback or halt."""
        ...

    @property
    def details(self) -> Mapping[str, Any]:
        """As `Decision.details`; `carried_out` false: recorded, but not acted upon."""
        ...


@dataclass(frozen=True)
class Decision:
    """What should happen next, and why, in sentences with numbers.

    mode: A drift, B sharpening, C shortcut, D tail narrowing, or None. details: the evidence by
    tier, `factors` (what later rounds go on from), `guards` with simultaneous intervals, `audits`
    of earlier actions.
    """

    round: int
    action: Action
    reasons: tuple[str, ...]
    mode: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DecisionRule:
    """The rule. Tolerances are absolute unless `_share` says relative to the anchor.

    Guarded: pass@1 of the main family and pass@`pass_k` of its tail slice (accuracy_loss);
    distinct-correct-pair probability of the main family and of its tail (diversity_loss_share);
    rare-strategy mass (rare_loss_share); over-confidence of majority votes above the anchor's or 0,
    whichever is more (overconfidence_gain); the share of the most repeated wrong answer
    (shortcut_gain); pass@1 of all other families together (general_loss); the share of samples, of
    all families, that were not scored (unscored_gain: as many wrong ones left out would hide a loss
    of pass@1 of at most as much). A quantity that the anchor cannot measure is no part of the
    panel; one for which a round has too few samples per problem keeps the evidence that it has. The
    first that applies:

    * an error reading, nothing kept, or a guarded quantity that can no longer be measured: halt;
    * HALT evidence: rollback, or halt when `max_rollbacks` are used up;
    * WATCH evidence, fewer than `min_kept` samples kept, or a yield significantly below
      `min_yield`: reinject;
    * else continue.

    After an action that was carried out the WATCH evidence begins anew, after a rollback the HALT
    evidence too, with its alpha spent over fresh starts (6 / (pi n)^2 for the n-th). `rounds` is
    the planned number of rounds.
    """

    main_family: str
    accuracy_loss: float = 0.01
    diversity_loss_share: float = 0.10
    rare_loss_share: float = 0.25
    overconfidence_gain: float = 0.05
    shortcut_gain: float = 0.01
    general_loss: float = 0.05
    unscored_gain: float = 0.01
    min_yield: float = 0.02
    min_kept: int = 0
    alpha: float = 0.05
    watch_alpha: float = 0.20
    watch_share: float = 0.25
    pass_k: int = 4
    rounds: int = 20
    max_rollbacks: int = 2
    tail_slice: str = "tail"
    num_baselines: int = 1
    also_guarded: tuple[guarded.Guarded, ...] = ()

    def __post_init__(self) -> None:
        shares = {
            "alpha": self.alpha,
            "watch_alpha": self.watch_alpha,
            "watch_share": self.watch_share,
        }
        wrong = [
            f"{name} = {value}: expected a number in (0, 1)"
            for name, value in shares.items()
            if not 0 < value < 1
        ]
        wrong += [f"rounds = {self.rounds}: expected at least 1"] if self.rounds < 1 else []
        wrong += (
            [f"max_rollbacks = {self.max_rollbacks}: expected at least 0"]
            if self.max_rollbacks < 0
            else []
        )
        if wrong:
            raise ValueError(f"DecisionRule: {'; '.join(wrong)}")

    def decide(
        self,
        view: RoundView,
        reference: RoundView | Sequence[RoundView] | None,
        readings: Sequence[Reading] = (),
        history: Sequence[Decided] = (),
    ) -> Decision:
        """Judge one round.

        Args: view: the round's view. reference: the anchor's view, frozen, best with four times as
            many samples per problem; or those of several, the first one first, at
                most `num_baselines`, their rounds fixed in advance (a round chosen for its scores
                would be a lucky one); None in round 0.
            readings: of this round, from `measure_all`; an error among them halts.
            history: earlier decisions, oldest first: evidence goes on from theirs.
        """
        decision = self._decide(view, reference, readings, history)
        copied = copies(view.probe, view.round)
        return replace(decision, reasons=(*decision.reasons, copied)) if copied else decision

    def _decide(
        self,
        view: RoundView,
        reference: RoundView | Sequence[RoundView] | None,
        readings: Sequence[Reading],
        history: Sequence[Decided],
    ) -> Decision:
        errors = tuple(
            f"{r.reason or r.name} (an error reading halts)"
            for r in readings
            if r.status == "error"
        )
        if errors:
            return Decision(view.round, "halt", errors)
        if view.pool is not None and (sentence := nothing_passes(view.pool)):
            return Decision(view.round, "halt", (f"{sentence}: there is nothing to train on",))
        anchors = (
            []
            if reference is None
            else [reference]
            if isinstance(reference, RoundView)
            else list(reference)
        )
        if not anchors:
            return Decision(
                view.round,
                "continue",
                ("round 0 is the frozen anchor: nothing to compare with yet",),
            )
        found: dict[str, Guard | Idle | str | None] = {}
        by_name: dict[str, RoundView] = {}
        for anchor in anchors:
            suffix = "" if anchor is anchors[0] else f"{SINCE}{anchor.round}"
            for quantity in self.quantities(view, anchor):
                name = quantity.name + suffix
                found[name], by_name[name] = replace(quantity, name=name).guard(), anchor
        guards = [g for g in found.values() if isinstance(g, Guard)]
        idle = {name: g.reason for name, g in found.items() if isinstance(g, Idle)}
        details: dict[str, Any] = {
            "unmeasured": {name: g for name, g in found.items() if isinstance(g, str)} | idle
        }
        if lost := [name for name, g in found.items() if g is None]:
            gone = tuple(
                f"{name} was measured at the anchor and cannot be measured any more"
                for name in lost
            )
            return Decision(view.round, "halt", gone, None, details)
        return self._weigh(view, by_name, guards, tuple(idle), details, history)

    def quantities(self, view: RoundView, reference: RoundView) -> Iterator[Quantity]:
        """All guarded quantities of a round."""
        return guarded.quantities(
            guarded.tables_of(reference.probe, view.probe, self.main_family, self.tail_slice), self
        )

    def factors(
        self, guards: Sequence[Guard], alpha: Mapping[str, float], idle: Sequence[str] = ()
    ) -> Factors:
        """A round's bets on every stream, by tier; NaN-free by construction.

        alpha: of the tiers `watch` and `halt`. idle: streams of the panel that this round cannot
        bet on. They stay in the mean, without growth: if they left it, the others' shares would no
        longer be fixed before the run.
        """
        streams = [g.stream for g in guards]
        z = {tier: evidence.anchor_z(alpha[tier], self.planned(guards, idle)) for tier in alpha}
        still = {name: [0.0] * len(evidence.BETS_B) for name in idle}
        return {
            "watch": (
                {
                    s.name: evidence.loss_factors(s, self.watch_share, z["watch"]).tolist()
                    for s in streams
                }
                | still
            ),
            "halt": (
                {s.name: evidence.loss_factors(s, 1.0, z["halt"]).tolist() for s in streams} | still
            ),
        }

    def planned(self, guards: Sequence[Guard], idle: Sequence[str] = ()) -> int:
        """Streams of the whole run, those of anchors yet to come included."""
        names = [*(g.name for g in guards), *idle]
        return max(len(names), self.num_baselines * sum(SINCE not in name for name in names))

    def recovery(
        self, guards: Sequence[Guard], alpha: float, idle: Sequence[str] = ()
    ) -> dict[str, list[float]]:
        """A round's bets on every quantity's being back within its tolerance."""
        z = evidence.anchor_z(alpha, self.planned(guards, idle))
        return {g.name: evidence.recovery_factors(g.stream, 1.0, z).tolist() for g in guards}

    def _weigh(
        self,
        view: RoundView,
        anchors: Mapping[str, RoundView],
        guards: list[Guard],
        idle: tuple[str, ...],
        details: dict[str, Any],
        history: Sequence[Decided],
    ) -> Decision:
        """Add this round's evidence to the earlier rounds', and act on what it amounts to."""
        done = [
            d
            for d in history
            if d.action in ("reinject", "rollback") and d.details.get("carried_out", True)
        ]
        rollbacks = [d for d in done if d.action == "rollback"]
        alpha = {"watch": self.watch_alpha, "halt": evidence.spent(self.alpha, len(rollbacks) + 1)}
        since = {
            "watch": done[-1].round + 1 if done else 0,
            "halt": rollbacks[-1].round + 1 if rollbacks else 0,
        }
        factors = self.factors(guards, alpha, idle) | {
            "recover": self.recovery(guards, alpha["halt"], idle)
        }
        level = 1 - self.alpha / self.rounds
        details |= {
            "factors": factors,
            "guards": [g.to_json(level) for g in guards],
            "audits": self._audits(done, factors, history, view.round),
        }
        beyond: dict[str, list[str]] = {}
        for tier in ("watch", "halt"):
            past = [d for d in history if d.round >= since[tier] and "factors" in d.details]
            rounds = [*(d.details["factors"][tier] for d in past), factors[tier]]
            num_streams = self.planned(guards, idle)
            weight = (
                evidence.weigh(rounds, self.rounds, num_streams, guarded.FIRST)
                if num_streams
                else evidence.Weight(0.0, {}, 0)
            )
            limit = evidence.log_limit(alpha[tier])
            details[tier] = {
                "log_e": weight.log_e,
                "log_limit": limit,
                "by_name": dict(weight.by_name),
                "alpha": alpha[tier],
                "driver": weight.driver if num_streams else "",
                "since": (
                    [*(d.round for d in past), view.round][weight.since]
                    if num_streams
                    else view.round
                ),
            }
            beyond[tier] = (
                self._beyond(weight, limit, guards, details[tier])
                if num_streams and weight.log_e >= limit
                else []
            )
        return self._act(view, anchors, guards, beyond, details, len(rollbacks))

    def _beyond(
        self,
        weight: evidence.Weight,
        limit: float,
        guards: Sequence[Guard],
        about: Mapping[str, Any],
    ) -> list[str]:
        """A sentence per quantity that has evidence enough on its own (e-Bonferroni).

        And in any case for the driver, which comes first.
        """
        brought = {n: log_e + float(np.log(weight.share[n])) for n, log_e in weight.by_name.items()}
        chosen = [
            n
            for n in sorted(brought, key=lambda n: -brought[n])
            if n == weight.driver or brought[n] >= limit
        ]
        guard = {g.name: g for g in guards}
        level = 1 - self.alpha / self.rounds
        now = {
            n: guard[n].sentence(level) if n in guard else f"{n} (not measured in this round)"
            for n in chosen
        }
        return [
            f"{now[n]}, e = {evidence.plain(weight.by_name[n])} from round {about['since']} on"
            for n in chosen
            if n == weight.driver or n not in guard or guard[n].loss > 0
        ]

    def _act(
        self,
        view: RoundView,
        anchors: Mapping[str, RoundView],
        guards: list[Guard],
        beyond: Mapping[str, list[str]],
        details: dict[str, Any],
        rollbacks: int,
    ) -> Decision:
        starved = self._starved(view, details)
        if not (beyond["halt"] or beyond["watch"] or starved):
            return Decision(
                view.round, "continue", (*self._told(details), self._calm(guards)), None, details
            )
        tier = "halt" if beyond["halt"] else "watch"
        mode = (
            attribute(view, anchors[details[tier]["driver"]], self.main_family, self.tail_slice)
            if beyond[tier]
            else None
        )
        share = "its tolerance" if tier == "halt" else f"{self.watch_share:.0%} of its tolerance"
        head = (
            f"{tier.upper()}: evidence e = {evidence.plain(details[tier]['log_e'])} (limit"
            f" {evidence.plain(details[tier]['log_limit'])}) of a loss"
        )
        reasons = (
            [f"{head} beyond {share}: {sentence}" for sentence in beyond[tier][:1]]
            + list(beyond[tier][1:])
            + starved
        )
        action: Action = "rollback" if beyond["halt"] else "reinject"
        if beyond["halt"] and rollbacks >= self.max_rollbacks:
            action = "halt"
            reasons.append(f"{rollbacks} of {self.max_rollbacks} rollbacks are used up")
        return Decision(view.round, action, (*reasons, *self._told(details)), mode, details)

    def _audits(
        self, done: Sequence[Decided], factors: Factors, history: Sequence[Decided], number: int
    ) -> list[dict[str, Any]]:
        """What became of the quantity that drove each action.

        Back within its tolerance, with the same guarantee, or not (yet).
        """
        out = []
        for decision in done:
            tier = "halt" if decision.action == "rollback" else "watch"
            driver = decision.details.get(tier, {}).get("driver")
            if driver not in factors["recover"]:
                continue
            past = [
                d.details["factors"]["recover"]
                for d in history
                if d.round > decision.round and "factors" in d.details
            ]
            rounds = [
                {driver: f[driver]} for f in [*past, factors["recover"]] if driver in f
            ]  # an anchor that is no more has no audit
            log_e = evidence.weigh(rounds, self.rounds).log_e
            out.append(
                {
                    "round": decision.round,
                    "action": decision.action,
                    "quantity": driver,
                    "log_e": log_e,
                    "rounds": number - decision.round,
                    "recovered": bool(log_e >= evidence.log_limit(self.alpha)),
                }
            )
        return out

    @staticmethod
    def _told(details: Mapping[str, Any]) -> list[str]:
        """The latest action's audit as a sentence."""
        return [
            f"after the {a['action']} of round {a['round']} the {a['quantity']} is "
            + (
                f"back within its tolerance (e = {evidence.plain(a['log_e'])})"
                if a["recovered"]
                else "not yet shown to be back within its tolerance"
            )
            for a in details["audits"][-1:]
        ]

    def _starved(self, view: RoundView, details: dict[str, Any]) -> list[str]:
        """The sentence when too little was kept.

        Fewer than `min_kept`, or significantly below `min_yield` (watch_alpha split over the
        rounds).
        """
        if view.pool is None or not len(view.pool.kept):
            return []
        details["yield"] = as_json(kept_share(view.pool))
        sentence = starves(
            view.pool, self.min_yield, 1 - 2 * self.watch_alpha / self.rounds, self.min_kept
        )
        return [sentence] if sentence else []

    def _calm(self, guards: list[Guard]) -> str:
        if not guards:
            return "no guarded quantity could be measured at the anchor, so none can have got worse"
        nearest = max(guards, key=lambda g: g.loss)
        return (
            "no evidence of a loss beyond any tolerance; nearest to its limit:"
            f" {nearest.sentence(1 - self.alpha / self.rounds)}"
        )
