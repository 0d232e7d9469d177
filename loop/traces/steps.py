"""The steps of other frameworks' records, which say what round each of them belongs to."""

from __future__ import annotations

import math
from typing import Any

from ouroloop.monitors.traces.rows import TraceError


class Steps:
    """The steps of all records: every one has a number, or none has."""

    def __init__(self) -> None:
        self._known: dict[bool, str] = {}

    def read(self, step: Any, where: str) -> float | None:
        """A record's step as a number; None: it has none.

        Raises:
            TraceError: it is no finite number, or another record has a step and this one has not.
        """
        # Columns of lists repeat it.
        if isinstance(step, list):
            step = step[0] if step else None
        number = None
        if step is not None:
            try:
                number = float(step)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not math.isfinite(number):
                raise TraceError(
                    f"{where}: step is {str(step)[:40]!r}; expected the number of a training step."
                )
        self._known.setdefault(number is not None, where)
        if len(self._known) == 2:
            # A record without one would join no round, or a round of its own out of order.
            raise TraceError(
                f"{self._known[False]}: no step, while {self._known[True]} has one; expected one in"
                " every record or in none. Give the files of one kind only."
            )
        return number
