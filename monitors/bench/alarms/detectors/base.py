"""What a detector is: one number a round, the larger the more alarming."""

from __future__ import annotations

from typing import Protocol

from ouroloop.monitors.bench.alarms.history import History


class Detector(Protocol):
    """Scores the latest round of a run.

    The benchmark chooses the threshold, on healthy runs, and a score above it is an alarm; so a
    detector has none, and any increasing function of its score would do as well. A detector whose
    own threshold was fixed in advance may have an attribute `limit: float`, from which on it
    alarms: the table then shows it as it is, too.
    """

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    def score(self, history: History) -> float:
        """How alarming the latest round is, with all before it.

        Called once after every round but the baseline, in order, on an object of its own for each
        run, so that it may keep what it has worked out. NaN counts as no alarm.
        """
        ...
