"""Judging the rounds of a loop that others run.

Every round is measured and decided on, nothing is carried out. Knows nothing of loops.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ouroloop.monitors.base import Monitor, Reading, RoundView
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.registry import measure_all, monitors_for
from ouroloop.monitors.traces.reader import TraceError

NEEDS_MORE = ("critic", "audit")
"""Monitors of what traces cannot hold: critiques and planted items."""


class Judged(NamedTuple):
    """One round: what was decided and read, and what has to be said about it."""

    decision: Decision
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_halt(self) -> bool:
        """HALT evidence: in a loop of ours the round would be rolled back, or the run ended."""
        return self.decision.action in ("rollback", "halt")


@dataclass
class Follower:
    """Judges round after round. As decisions are only recorded.

    The evidence of all rounds goes on adding up.

    reference: the first anchor, the first round judged. anchors: which rounds, counted from 0 and
    fixed in advance, later ones are held against; `panel.num_baselines` should say how many.
    history: the decisions so far, each with `carried_out` false in its details. monitors: empty:
    all that need no more than traces hold, set up for the rule's main family and k.
    """

    rule: DecisionRule
    monitors: Mapping[str, Monitor] = field(default_factory=dict)
    reference: RoundView | None = None
    history: list[Decision] = field(default_factory=list)
    baselines: tuple[int, ...] = (0,)
    later_: list[RoundView] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The monitors that nobody chose."""
        self.monitors = self.monitors or trace_monitors(self.rule)

    def judge(self, view: RoundView) -> Judged:
        """Measure and decide; only problems that the anchor has too are compared.

        A monitor that raises gives a reading of status "error", which is reported and decides
        nothing: the loop is somebody else's, and an error of ours says nothing about its model.

        Raises:
            TraceError: the round shares no problem with the anchor.
        """
        notes: tuple[str, ...] = ()
        references: list[RoundView] = []
        if self.reference is None:
            self.reference = view
        else:
            if len(self.history) in self.baselines:
                self.later_.append(view)
            now, then, notes = shared(view, self.reference)
            both = set(now.probe.problem)
            references = [
                then,
                *(only(anchor, both) for anchor in self.later_ if anchor is not view),
            ]
            view = now
        readings = measure_all(view, references[0] if references else None, self.monitors)
        sound = [r for r in readings if r.status != "error"]
        decision = self.rule.decide(view, references or None, sound, self.history)
        decision = replace(decision, details={**decision.details, "carried_out": False})
        self.history.append(decision)
        return Judged(decision, tuple(readings), notes)


def trace_monitors(
    rule: DecisionRule, num_samples: int = 8, temperature: float = 1.0
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
    views: Iterable[RoundView], panel: DecisionRule, monitors: Mapping[str, Monitor] | None = None
) -> list[Judged]:
    """Judge all rounds, the anchor first."""
    follower = Follower(panel) if monitors is None else Follower(panel, monitors)
    return [follower.judge(view) for view in views]


def shared(view: RoundView, reference: RoundView) -> tuple[RoundView, RoundView, tuple[str, ...]]:
    """Both rounds' panels over the problems that both have, and a sentence about those left out."""
    now, then = set(view.probe.problem), set(reference.probe.problem)
    both = now & then
    if not both:
        raise TraceError(
            f"round {view.round} has none of round 0's {len(then):,} problems, e.g. {min(now)!r}"
            f" against {min(then)!r}; expected the same fixed panel in every round. Are the ids"
            " counted anew in every file?"
        )
    if both == now == then:
        return view, reference, ()
    parts = [only(v, both) for v in (view, reference)]
    note = (
        f"round {view.round}: compared over the {len(both):,} problems that round 0 has too; left"
        f" out: {len(now - both):,} of this round's, {len(then - both):,} of round 0's"
    )
    return parts[0], parts[1], (note,)


def only(view: RoundView, problems: Collection[str]) -> RoundView:
    """The round's panel on these problems alone."""
    kept_N = np.array([p in problems for p in view.probe.problem], dtype=bool)
    return view if kept_N.all() else replace(view, probe=view.probe.where(kept_N))
