"""Judging the rounds of a loop that others run: every round is measured and decided on, nothing is carried out. Knows nothing of loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from monitors.base import Monitor, Reading, RoundView
from monitors.panel import Panel, PanelDecision
from monitors.registry import MONITORS, measure_all
from monitors.traces import TraceError

NEEDS_MORE = ("critic", "canary")
"""Monitors of what traces cannot hold: critiques and planted items."""


class Judged(NamedTuple):
    """One round: what was decided and read, and what has to be said about it."""

    decision: PanelDecision
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_halt(self) -> bool:
        """HALT evidence: in a loop of ours the round would be rolled back, or the run ended."""
        return self.decision.action in ("rollback", "halt")


@dataclass
class Follower:
    """Judges round after round. As decisions are only recorded, the evidence of all rounds goes on adding up.

    reference: the anchor, the first round judged. history: the decisions so far, each with `carried_out` false in its details.
    """

    panel: Panel
    monitors: Mapping[str, Monitor] = field(default_factory=lambda: {n: m for n, m in MONITORS.items() if n not in NEEDS_MORE})
    reference: RoundView | None = None
    history: list[PanelDecision] = field(default_factory=list)

    def judge(self, view: RoundView) -> Judged:
        """Measure and decide; only problems that the anchor has too are compared.

        Raises:
            TraceError: the round shares no problem with the anchor.
        """
        notes: tuple[str, ...] = ()
        reference = self.reference
        if reference is None:
            self.reference = view
        else:
            view, reference, notes = shared(view, reference)
        readings = measure_all(view, reference, self.monitors)
        decision = self.panel.decide(view, reference, readings, self.history)
        decision = replace(decision, details={**decision.details, "carried_out": False})
        self.history.append(decision)
        return Judged(decision, tuple(readings), notes)


def follow(views: Iterable[RoundView], panel: Panel, monitors: Mapping[str, Monitor] | None = None) -> list[Judged]:
    """Judge all rounds, the anchor first."""
    follower = Follower(panel) if monitors is None else Follower(panel, monitors)
    return [follower.judge(view) for view in views]


def shared(view: RoundView, reference: RoundView) -> tuple[RoundView, RoundView, tuple[str, ...]]:
    """Both rounds' panels over the problems that both have, and a sentence about those left out."""
    now, then = set(view.probe.problem), set(reference.probe.problem)
    both = now & then
    if not both:
        raise TraceError(
            f"round {view.round} has none of round 0's {len(then):,} problems, e.g. {min(now)!r} against {min(then)!r}; expected the same fixed "
            "panel in every round. Are the ids counted anew in every file?"
        )
    if both == now == then:
        return view, reference, ()
    parts = [replace(v, probe=v.probe.where(np.array([p in both for p in v.probe.problem], dtype=bool))) for v in (view, reference)]
    note = (
        f"round {view.round}: compared over the {len(both):,} problems that round 0 has too; left out: {len(now - both):,} of this round's, "
        f"{len(then - both):,} of round 0's"
    )
    return parts[0], parts[1], (note,)
