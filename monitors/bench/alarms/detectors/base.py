"""What a detector is: one number a round, the larger the more alarming."""

from __future__ import annotations

from math import log
from typing import Protocol

from ouroloop.monitors.bench.alarms.history import History


class Detector(Protocol):
    """Scores the latest round of a run.

    The benchmark chooses the threshold, on healthy runs, and a score above it is an alarm; so a
    detector has none, and any increasing function of its score would do as well. One whose own
    threshold was fixed in advance may have an attribute `limit: float`, from which on it alarms: it
    is then shown as it is, and not calibrated.
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


def odds_of_change(log_e: float, history: History) -> float:
    """Log of a mixture over evenly likely first rounds, by the share of those not yet past.

    A mixture falls by itself while nothing happens, for ever fewer first rounds are left that have
    lost nothing: one threshold for all rounds would then be passed in the first one or never. What
    is left is one plus the odds that the change has begun. Source: Shiryaev 1963.
    """
    # From the latest round to the last planned one, both counted; `rounds` has the baseline, too.
    left = max(history.planned + 2 - len(history.rounds), 1)
    return log_e - log(left / history.planned)
