"""From readings to one decision, with its reasons: the first rule, simple and conservative. Knows nothing of the loop.

Every comparison is with round 0, frozen, paired by problem, clusters = problems. The one-sided level alpha is split evenly over
guarded quantities and rounds (Bonferroni, valid under any dependence): in a run where nothing gets worse, P(any "reinject") <=
alpha; in a run where nothing gets worse than tolerated, P(any "rollback") <= alpha; both up to the t approximation. It is a
blunt test: an e-process over rounds takes its place in a later version, behind the same `decide`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from monitors import scores
from monitors.base import Reading, RoundView, Samples
from monitors.guards import Guard, Quantity
from monitors.modes import attribute
from monitors.rare import rare_mass
from monitors.readings import as_json, families, of
from monitors.supply import kept_share, nothing_passes

UNSCORED = "too few scored samples at round 0"

Action = Literal["continue", "reinject", "rollback", "halt"]


class Decided(Protocol):
    """What the panel needs to know of an earlier decision."""

    @property
    def action(self) -> str:
        """continue, reinject, rollback or halt."""
        ...


@dataclass(frozen=True)
class PanelDecision:
    """What should happen next, and why, in sentences with numbers.

    `mode`: A drift, B sharpening, C shortcut, D tail narrowing, or None.
    """

    round: int
    action: Action
    reasons: tuple[str, ...]
    mode: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """The rule. Tolerances are absolute unless `_share` says relative to round 0.

    Guarded: pass@1 of the main family, of its tail slice and of every other family (accuracy_loss); distinct-correct-pair
    probability of the main family (diversity_loss_share); rare-strategy mass (rare_loss_share); over-confidence of the main
    family's votes above round 0's or 0, whichever is more (overconfidence_gain); the filter's yield (min_yield). The first that
    applies:

    * an error reading, nothing kept, or a guarded quantity that can no longer be measured: halt;
    * a loss significantly beyond its tolerance: rollback, or halt when `max_rollbacks` are used up;
    * a significant loss beyond `watch_share` of its tolerance, or a yield significantly below `min_yield` (anchors help
      there, older weights would not): reinject;
    * else continue.

    `rounds` is the planned number of rounds; every round is judged on its own, so one after a rollback starts with a clean slate.
    """

    main_family: str
    accuracy_loss: float = 0.02
    diversity_loss_share: float = 0.10
    rare_loss_share: float = 0.25
    overconfidence_gain: float = 0.05
    min_yield: float = 0.02
    alpha: float = 0.05
    rounds: int = 6
    max_rollbacks: int = 2
    watch_share: float = 0.5
    tail_slice: str = "tail"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.rounds < 1 or self.max_rollbacks < 0:
            got = f"{self.alpha}, {self.rounds}, {self.max_rollbacks}"
            raise ValueError(f"Panel: expected alpha in (0, 1), rounds >= 1 and max_rollbacks >= 0, got {got}")

    def decide(
        self, view: RoundView, reference: RoundView | None, readings: Sequence[Reading], history: Sequence[Decided] = (),
    ) -> PanelDecision:
        """Judge one round.

        Args:
            view: the round's view.
            reference: round 0's view; None in round 0.
            readings: of this round, from `measure_all`; an error among them halts.
            history: earlier decisions, whose rollbacks count.
        """
        errors = tuple(f"{r.reason or r.name} (an error reading halts)" for r in readings if r.status == "error")
        if errors:
            return PanelDecision(view.round, "halt", errors)
        if view.pool is not None and (sentence := nothing_passes(view.pool)):
            return PanelDecision(view.round, "halt", (f"{sentence}: there is nothing to train on",))
        if reference is None:
            return PanelDecision(view.round, "continue", ("round 0 is the frozen reference: nothing to compare with yet",))
        guards, unmeasured, lost = self.guards(view, reference)
        num_tests = len(guards) + len(unmeasured) + len(lost) + 1
        level = self.alpha / (num_tests * self.rounds)
        details = {
            "level": level, "num_tests": num_tests, "alpha": self.alpha, "unmeasured": unmeasured,
            "guards": [g.to_json(level, self.watch_share) for g in guards],
        }
        if lost:
            gone = tuple(f"{name} was measured at round 0 and cannot be measured any more" for name in lost)
            return PanelDecision(view.round, "halt", gone, None, details)
        return self._act(view, reference, guards, level, details, sum(d.action == "rollback" for d in history))

    def _act(
        self, view: RoundView, reference: RoundView, guards: list[Guard], level: float, details: dict[str, Any], rollbacks: int,
    ) -> PanelDecision:
        beyond = [g for g in guards if g.tier(level, self.watch_share) == "halt"]
        watched = [g for g in guards if g.tier(level, self.watch_share) == "watch"]
        starved = self._starved(view, level, details)
        reasons = [f"{g.sentence()}: beyond the tolerance (p = {g.p_beyond:.1g} < {level:.1g})" for g in beyond]
        reasons += [f"{g.sentence()}: clearly worse than round 0 (p = {g.p_any:.1g} < {level:.1g})" for g in watched]
        reasons += starved
        if not reasons:
            return PanelDecision(view.round, "continue", (self._calm(guards),), None, details)
        action: Action = "rollback" if beyond else "reinject"
        if beyond and rollbacks >= self.max_rollbacks:
            action = "halt"
            reasons.append(f"{rollbacks} of {self.max_rollbacks} rollbacks are used up")
        mode = attribute(view, reference, self.main_family, self.tail_slice) if beyond or watched else None
        return PanelDecision(view.round, action, tuple(reasons), mode, details)

    def guards(self, view: RoundView, reference: RoundView) -> tuple[list[Guard], dict[str, str], list[str]]:
        """All guarded quantities; those that round 0 could not measure (name -> why); those that only this round cannot."""
        guards: list[Guard] = []
        unmeasured: dict[str, str] = {}
        lost: list[str] = []
        for quantity in self._quantities(view, reference):
            if not quantity.measured:
                unmeasured[quantity.name] = quantity.why_missing
            elif guard := quantity.guard():
                guards.append(guard)
            else:
                lost.append(quantity.name)
        return guards, unmeasured, lost

    def _quantities(self, view: RoundView, reference: RoundView) -> Iterator[Quantity]:
        now, then = of(view.probe, "family", self.main_family), of(reference.probe, "family", self.main_family)
        yield self._pass_1(f"family {self.main_family}", now, then)
        if len(tail := of(then, "slice", self.tail_slice)):
            yield self._pass_1(f"family {self.main_family}, slice {self.tail_slice}", of(now, "slice", self.tail_slice), tail)
        for family in families(reference.probe):
            if family != self.main_family:
                yield self._pass_1(f"family {family}", of(view.probe, "family", family), of(reference.probe, "family", family))
        chosen = scores.families_with_strategies(then)
        yield Quantity(
            "distinct-correct-pair probability",
            scores.distinct_correct_pairs(now, chosen), scores.distinct_correct_pairs(then, chosen),
            self.diversity_loss_share, "no strategy ids, or no pair of right answers, at round 0", relative=True,
        )
        rare = rare_mass(view.probe, reference.probe)
        yield Quantity(
            "rare-strategy mass", rare.current, rare.reference, self.rare_loss_share,
            "no strategy was right and rare at round 0", relative=True,
        )
        yield self._overconfidence(scores.votes(now).overconfidence(), scores.votes(then).overconfidence())

    def _overconfidence(self, now: scores.Scores, then: scores.Scores) -> Quantity:
        """An under-confident round 0 (votes of a weak model are) counts as calibrated: rising towards 0 is no harm."""
        start, note = sum(then.values()) / max(len(then), 1), ""
        if start < 0:
            then, note = dict.fromkeys(then, 0.0), f"round 0 was under-confident, {start:.3f}: calibration, 0, is the reference"
        return Quantity(
            "over-confidence of majority votes", now, then, self.overconfidence_gain, UNSCORED,
            up_is_good=False, bound=2.0, note=note,
        )

    def _pass_1(self, where: str, now: Samples, then: Samples) -> Quantity:
        return Quantity(f"pass@1 of {where}", scores.accuracy(now), scores.accuracy(then), self.accuracy_loss, UNSCORED)

    def _starved(self, view: RoundView, level: float, details: dict[str, Any]) -> list[str]:
        """The sentence when the filter's yield lies significantly below `min_yield`."""
        if view.pool is None or not len(view.pool.kept):
            return []
        details["yield"] = as_json(kept_share(view.pool))
        strict = kept_share(view.pool, level=1 - 2 * level)
        if strict.high >= self.min_yield:
            return []
        shown = kept_share(view.pool)
        interval = f"95 % interval {shown.low:.4f} to {shown.high:.4f}"
        return [f"yield {shown.value:.4f} ({interval}) is below {self.min_yield:g} kept per sample: the training set starves"]

    def _calm(self, guards: list[Guard]) -> str:
        if not guards:
            return "no guarded quantity could be measured at round 0, so none can have got worse"
        nearest = max(guards, key=lambda g: g.worse / g.tolerance if g.tolerance > 0 else g.worse)
        return f"no guarded quantity is clearly worse than tolerated; nearest to its limit: {nearest.sentence()}"
