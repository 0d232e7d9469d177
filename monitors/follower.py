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
from ouroloop.monitors.metrics.readings import some_samples
from ouroloop.monitors.registry import MONITORS, measure_all
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
    num_samples: read so many samples of a problem in every round, for some readings (the
    over-confidence of a vote) are another thing with more; the decision sees all. history: the
    decisions so far, each with `carried_out` false in its details.
    """

    rule: DecisionRule
    monitors: Mapping[str, Monitor] = field(
        default_factory=lambda: {n: m for n, m in MONITORS.items() if n not in NEEDS_MORE}
    )
    reference: RoundView | None = None
    history: list[Decision] = field(default_factory=list)
    baselines: tuple[int, ...] = (0,)
    num_samples: int | None = None
    later_: list[RoundView] = field(default_factory=list)

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
        read, *first = [self._alike(v) for v in (view, *references[:1])]
        readings = measure_all(read, first[0] if first else None, self.monitors)
        sound = [r for r in readings if r.status != "error"]
        decision = self.rule.decide(view, references or None, sound, self.history)
        decision = replace(decision, details={**decision.details, "carried_out": False})
        self.history.append(decision)
        return Judged(decision, tuple(readings), notes)

    def _alike(self, view: RoundView) -> RoundView:
        return (
            view
            if self.num_samples is None
            else replace(view, probe=some_samples(view.probe, self.num_samples))
        )


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
