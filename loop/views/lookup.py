"""Finding a number among a round's readings by its estimand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import Estimand

# Family of an estimand that is still to be filled in: the run's main family.
MAIN = "(main)"


def find(readings: Iterable[Reading], wanted: Estimand, main: str) -> Reading | None:
    """The reading of an estimand.

    Args:
        readings: those of one round.
        wanted: two parts may be left open: the family `MAIN`, and the number in the statistic, as
            in `accuracy/pass@k` (of several numbers, the largest).
        main: the run's main family.
    """
    if wanted.family == MAIN:
        wanted = replace(wanted, family=main)
    head, _, number = wanted.statistic.rpartition("@")
    is_open = bool(head) and not number.isdigit()
    same: dict[int, Reading] = {}
    for reading in readings:
        name, _, size = reading.estimand.statistic.rpartition("@")
        if reading.estimand == wanted:
            return reading
        if (
            is_open
            and name == head
            and replace(wanted, statistic=reading.estimand.statistic) == (reading.estimand)
        ):
            same[int(size)] = reading
    return same[max(same)] if same else None
