"""What rows say of their problem rather than of their sample: one thing, in every round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ouroloop.monitors.traces.rows import TraceError, shown
from ouroloop.monitors.traces.views import FAMILY, SLICE

UNNAMED = {"family": FAMILY, "slice": SLICE}
"""Fields of the problem, with what it counts as where its rows name none."""


@dataclass
class OfProblems:
    """The baseline's families and slices, which hold for the later rounds.

    A problem that changed its family would be missing from the old one: what the old one guards
    would be lost, and the round would be called a halt that is none.

    Attributes:
        known_: field -> problem -> what the baseline's rows say, None: nothing.
    """

    known_: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {} for name in UNNAMED}
    )

    def complete(self, row: dict[str, Any], number: int, where: str) -> None:
        """Fill in what a later round's row leaves to the baseline.

        Args:
            row: as `read_row` returns it.
            number: its round, 0 the baseline.
            where: its place, for messages.

        Raises:
            TraceError: it says something else of its problem than the rows before it.
        """
        problem = row["problem"]
        for name, known in self.known_.items():
            if number == 0:
                known.setdefault(problem, row[name])
            # A problem that the baseline has not is compared with nothing.
            elif problem not in known:
                continue
            elif row[name] is None:
                row[name] = known[problem]
            before, now = known[problem], row[name]
            if before != now and (before or UNNAMED[name]) != (now or UNNAMED[name]):
                raise TraceError(_contradiction(name, problem, before, now, number, where))


def _contradiction(name: str, problem: str, before: Any, now: Any, number: int, where: str) -> str:
    said = [shown(value) if value else "none" for value in (now, before)]
    of = f"{name} of problem {problem!r} is {said[0]}"
    if number == 0:
        return (
            f"{where}: {of}, after {said[1]}; expected one {name} for each problem. Name families"
            " of different problems differently, or give the problems ids of their own."
        )
    return (
        f"{where} (round {number}): {of}; expected {said[1]}, as in round 0. Correct it, or leave"
        " the column out: round 0's counts."
    )
