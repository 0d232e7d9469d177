"""What a round keeps of further draws of its probe set: answers, and why there are no more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ouroloop.loop.rows import ProbeRow


@dataclass(frozen=True)
class FurtherRow(ProbeRow):
    """One answer of a further draw of the probe set. draw: 1 for the second draw of the round."""

    draw: int = 1


class Stopped(StrEnum):
    """Why a round's probe set was not drawn once more."""

    BASELINE = "baseline"
    """A baseline round: it has more samples from the start."""
    CALM = "calm"
    """No evidence that a loss has begun."""
    HALT = "halt"
    """HALT's limit is reached: more samples would change nothing."""
    DRAWS = "draws"
    """As often as `probe.draws` allows."""
    BUDGET = "budget"
    """One more would cost more than `monitors.budget` of the run's sampled tokens."""


@dataclass(frozen=True)
class Drawn:
    """How often a round's probe set was drawn, and why not once more.

    Attributes:
        num_draws: draws.
        begun: after each, the sum over losses that may have begun of what bets on them would have
            won (`monitors/decision/drawing.py`).
        stopped: why there is no further one.
        sampled_tokens: of the whole run so far, further draws apart.
        further_tokens: of all further draws of the run so far.
    """

    num_draws: int
    begun: tuple[float, ...]
    stopped: Stopped
    sampled_tokens: int
    further_tokens: int
