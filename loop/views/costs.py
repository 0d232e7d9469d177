"""What a run's tokens went into: the sums over its rounds, and a sentence of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ouroloop.loop.costs import Purpose, estimand_of, sampled, watched_share
from ouroloop.loop.views.reader import RoundData

# How a purpose is called in a sentence.
WORDS = {
    Purpose.DRAFTS: "drafts",
    Purpose.CRITIQUES: "critiques",
    Purpose.REVISIONS: "revisions",
    Purpose.PROBE: "the probe",
    Purpose.CRITIC: "critiques of the probe",
    Purpose.AUDIT: "the verifier audit",
    Purpose.JUDGE: "the frozen judge",
}


@dataclass(frozen=True)
class Spent:
    """Tokens of several rounds. tokens: NaN where one of the rounds does not say."""

    tokens: dict[Purpose, float]

    @property
    def sampled(self) -> float:
        """All that was sampled."""
        return sampled(self.tokens)

    @property
    def watched(self) -> float:
        """Share of it that only watches."""
        return watched_share(self.tokens)

    @property
    def is_known(self) -> bool:
        """Whether every round counted its tokens."""
        return not math.isnan(self.sampled) and self.sampled > 0


def spent(rounds: Sequence[RoundData]) -> Spent:
    """The sums over these rounds."""
    totals = dict.fromkeys(Purpose, 0.0)
    for round in rounds:
        for purpose in Purpose:
            found = round.find(estimand_of(purpose))
            # A run of an earlier version has no such reading.
            totals[purpose] += math.nan if found is None else found.value
    return Spent(totals)


def sentence(rounds: Sequence[RoundData]) -> str:
    """`1.10 M tokens were sampled: 56 % for the probe, ...; 58 % only to measure.`; or ""."""
    found = spent(rounds)
    if not found.is_known:
        return ""
    largest = sorted(WORDS, key=lambda purpose: -found.tokens[purpose])
    parts = [
        f"{100 * found.tokens[purpose] / found.sampled:.0f} % for {WORDS[purpose]}"
        for purpose in largest
        if found.tokens[purpose] >= 0.005 * found.sampled
    ]
    return (
        f"{counted(found.sampled)} tokens were sampled: {', '.join(parts)};"
        f" {100 * found.watched:.0f} % only to measure."
    )


def counted(tokens: float) -> str:
    """`1.10 M`, `12.3 k` or `812`."""
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{sign}"
    return f"{tokens:.0f}"
