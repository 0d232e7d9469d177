"""Judging the rounds of a loop that others run; knows nothing of loops.

Every round is measured and decided on, and no decision is carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ouroloop.monitors.base import Monitor, Reading, RoundView
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.decision.guards import Guard
from ouroloop.monitors.decision.records import Unmeasured
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.names import Action
from ouroloop.monitors.registry import measure_all, monitors_for
from ouroloop.monitors.traces.reader import TraceError

# Their readings would be undefined in every round.
NEEDS_MORE = ("critic", "audit")
"""Monitors of what traces cannot hold: critiques and planted items."""


LACKING = "round 0 measures it on problems that this round lacks"
"""Why a quantity of round 0 is not guarded in a round of fewer problems."""


class Judged(NamedTuple):
    """One round: what was decided and read, and what has to be said about it."""

    decision: Decision
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_halt(self) -> bool:
        """In a loop of ours the round would be rolled back, or the run ended."""
        return self.decision.action in (Action.ROLLBACK, Action.HALT)


@dataclass
class Follower:
    """Judges round after round. As decisions are only recorded, all rounds' evidence adds up.

    Attributes:
        rule: the decision rule; its `num_baselines` should be the number of `baselines`.
        monitors: what is read of every round; empty: all that need no more than traces hold, set
            up for the rule's main family and k.
        reference: the first baseline, the first round judged.
        history: the decisions so far, none of them carried out.
        baselines: which rounds, counted from 0 and fixed in advance, later ones are compared with.
    """

    rule: DecisionRule
    monitors: Mapping[str, Monitor] = field(default_factory=dict)
    reference: RoundView | None = None
    history: list[Decision] = field(default_factory=list)
    baselines: tuple[int, ...] = (0,)
    later_: list[RoundView] = field(default_factory=list)
    baseline_readings_: Mapping[int, tuple[Reading, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The monitors that nobody chose."""
        self.monitors = self.monitors or trace_monitors(self.rule)

    def judge(self, view: RoundView) -> Judged:
        """Measure and decide; only problems that the baseline has too are compared.

        A monitor that raises gives a reading of status "error", which is reported and decides
        nothing: the loop is somebody else's, and an error of ours says nothing about its model.

        Raises:
            TraceError: the round shares no problem with the baseline.
        """
        whole = view
        notes: tuple[str, ...] = ()
        baselines: list[RoundView] = []
        if self.reference is not None:
            # Every comparison is paired by problem, so all rounds are cut to common problems.
            view, first, notes = shared(view, self.reference)
            both = codes(view.probe.problem)[0]
            baselines = [first, *(only(later, both) for later in self.later_)]
        readings = measure_all(view, baselines[0] if baselines else None, self.monitors)
        # An error reading would halt; here it is only reported.
        sound = _sound(readings)
        before = {b.round: _sound(self._of_baseline(b)) for b in baselines}
        decision = self.rule.decide(view, baselines, sound, self.history, before)
        # Notes are of problems that were left out.
        if notes and self.reference is not None:
            decision = self._with_left_out(decision, self.reference)
        if self.reference is None:
            self.reference = whole
            self._keep(view, readings)
        elif len(self.history) in self.baselines:
            self.later_.append(whole)
            self._keep(view, readings)
        # What is only recorded starts no evidence anew.
        decision = replace(decision, carried_out=False)
        self.history.append(decision)
        return Judged(decision, tuple(readings), notes)

    def _with_left_out(self, decision: Decision, reference: RoundView) -> Decision:
        """The decision with the quantities that are not guarded for want of their problems.

        The rule sees common problems alone: without the rest it knows no tail to miss, or takes the
        baseline to be at fault.
        """
        # Without bets the run was stopped, and the decision says by what.
        if decision.factors is None:
            return decision
        # What a round has too few samples for keeps its evidence, and the rule says so rightly.
        seen = decision.factors.watch.keys()
        measured = self.rule.measure(reference, reference, reference)
        left_out = {
            guard.id: Unmeasured(guard.id.quantity, guard.id.baseline, guard.quantity.name, LACKING)
            for guard in measured
            if isinstance(guard, Guard) and guard.id not in seen
        }
        others = (entry for entry in decision.unmeasured if entry.stream not in left_out)
        return replace(decision, unmeasured=(*others, *left_out.values()))

    def _of_baseline(self, view: RoundView) -> Sequence[Reading]:
        """The readings of a baseline, taken again where an interrupted run's are not known."""
        if view.round not in self.baseline_readings_:
            self._keep(view, measure_all(view, None, self.monitors))
        return self.baseline_readings_[view.round]

    def _keep(self, view: RoundView, readings: Sequence[Reading]) -> None:
        # A new mapping, so that a copy of this follower made before is left as it was.
        self.baseline_readings_ = {**self.baseline_readings_, view.round: tuple(readings)}


def _sound(readings: Sequence[Reading]) -> list[Reading]:
    return [r for r in readings if r.status != "error"]


def trace_monitors(
    rule: DecisionRule,
    num_samples: int = 8,
    temperature: float = 1.0,
) -> dict[str, Monitor]:
    """The monitors that need no more than traces hold, set up for a rule.

    Args:
        rule: names the main family and the k of pass@k.
        num_samples: samples of a problem that every round has.
        temperature: that of the samples.
    """
    monitors = monitors_for(
        rule.main_family or None,
        pass_k=rule.pass_k,
        majority_k=min(8, num_samples),
        num_samples=num_samples,
        temperature=temperature,
    )
    return {name: monitor for name, monitor in monitors.items() if name not in NEEDS_MORE}


def follow(
    views: Iterable[RoundView],
    rule: DecisionRule,
    monitors: Mapping[str, Monitor] | None = None,
) -> list[Judged]:
    """Judge all rounds, the baseline first."""
    follower = Follower(rule) if monitors is None else Follower(rule, monitors)
    return [follower.judge(view) for view in views]


def shared(view: RoundView, reference: RoundView) -> tuple[RoundView, RoundView, tuple[str, ...]]:
    """Both rounds over the problems that both have, and a sentence about those left out."""
    now, then = ({*codes(side.probe.problem)[0]} for side in (view, reference))
    both = now & then
    if not both:
        raise TraceError(
            f"round {view.round} has none of round 0's {len(then):,} problems, e.g. {min(now)!r}"
            f" against {min(then)!r}; expected the same fixed probe set in every round. Are the ids"
            " counted anew in every file?"
        )
    # The usual case: nothing to cut, nothing to say.
    if both == now == then:
        return view, reference, ()
    parts = [only(v, both) for v in (view, reference)]
    note = (
        f"round {view.round}: compared over the {len(both):,} problems that round 0 has too; left"
        f" out: {len(now - both):,} of this round's, {len(then - both):,} of round 0's"
    )
    return parts[0], parts[1], (note,)


def only(view: RoundView, problems: Collection[str]) -> RoundView:
    """The round's samples of these problems alone."""
    kept_N = is_among(view.probe.problem, {*problems})
    if kept_N.all():
        return view
    return replace(view, probe=view.probe.where(kept_N))
