"""Samples that were dropped because no server gave a usable answer: counted, and never too many."""

from __future__ import annotations

from collections.abc import Sequence

from ouroloop.loop.errors import EngineError
from ouroloop.loop.records import Sample
from ouroloop.loop.round import Round
from ouroloop.loop.rows import DroppedRow


class Drops:
    """How much of a known number of requests was dropped so far.

    Args:
        what: whose requests, for the error.
        most: the recipe's `servers.max_dropped`.
        total: all that will be asked, so that a share is certain as soon as it is exceeded.
    """

    def __init__(self, what: str, most: float, total: int) -> None:
        self.what, self.most, self.total = what, most, total
        self.count = 0

    def add(self, why: str) -> None:
        """One more.

        Raises:
            EngineError: it is one too many.
        """
        self.count += 1
        # At the first one too many, not at the stage's end: with a dead server that may be a
        # day later.
        if self.count > self.most * self.total:
            raise EngineError(
                f"{self.what}: {self.count:,} of {self.total:,} got no usable answer, and"
                f" servers.max_dropped: {self.most:g} allows {int(self.most * self.total):,}. The"
                f" last: {why}. What was answered is kept: see to the server, then `ouroloop"
                " resume` asks for the rest."
            )


def set_apart(round: Round, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that were answered; the others are listed in the round's `dropped`."""
    dropped = [
        DroppedRow(sample.id, sample.problem_id, sample.dropped)
        for sample in samples
        if sample.dropped
    ]
    # A run without servers has no such file.
    if dropped:
        round.dropped = tuple(dropped)
    return [sample for sample in samples if not sample.dropped]


def counts_of(round: Round) -> dict[str, int]:
    """What became of a round's samples, for its event."""
    verdicts = round.verdicts
    return {
        "samples": len(verdicts),
        "kept": sum(verdict.kept for verdict in verdicts),
        "dropped": len(round.dropped),
        "held_out_copies": len(round.screened.copies),
    }
