"""What rows say of their problem rather than of their sample: the same in every round."""

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
        known_: field -> problem -> what the baseline's rows say of it, in the order of the rows.
    """

    known_: dict[str, dict[str, tuple[Any, ...]]] = field(
        default_factory=lambda: {name: {} for name in UNNAMED}
    )

    def complete(self, row: dict[str, Any], number: int, where: str) -> None:
        """Learn from a row of the baseline, and fill in what a later row leaves to it.

        Args:
            row: as `read_row` returns it.
            number: its round, 0 the baseline.
            where: its place, for messages.

        Raises:
            TraceError: it says something of its problem that the baseline does not say.
        """
        if number == 0:
            self._learn(row)
            return
        for name, known in self.known_.items():
            said = known.get(row["problem"])
            # A problem that the baseline has not is compared with nothing.
            if said is None:
                continue
            if row[name] is None and len(said) == 1:
                row[name] = said[0]
            counts_as = {value or UNNAMED[name] for value in said}
            if (row[name] or UNNAMED[name]) not in counts_as:
                own = number if row["round"] is None else row["round"]
                expected = " or ".join(shown(value) if value else "none" for value in said)
                raise TraceError(
                    f"{where} (round {own:g}): {name} of problem {row['problem']!r} is"
                    f" {shown(row[name]) if row[name] else 'none'}; expected {expected}, as in"
                    " round 0. Correct it, or leave the column out: round 0's counts."
                )

    def _learn(self, row: dict[str, Any]) -> None:
        for name, known in self.known_.items():
            said = known.get(row["problem"], ())
            if row[name] not in said:
                known[row["problem"]] = (*said, row[name])
