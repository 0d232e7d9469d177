"""Whether a round's probe set is drawn once more, and what several draws amount to.

A further draw asks the round's own model the same problems again. Given the model it is independent
of the draws before it, so its bets multiply theirs as those of a further round would: by
expectation no product of them gains while the run is healthy, and whether to draw again may depend
on all that was seen before (optional continuation of an e-process). HALT's proof stands as it is.

WATCH's evidence decides. After n of T rounds a stream's e-value is (S + T - n) / T, where S sums
what the losses that may have begun would have won. S, not the e-value, says whether something is
going on: while all is calm the e-value falls from 1 to 0 as the rounds pass.

Source: Grunwald, de Heide & Koolen 1906.07801 (optional continuation); Shiryaev 1963 and Roberts
1966 (the sum over beginnings); Dodge & Romig 1929 (a second sample where the first is in doubt).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from math import exp

import numpy as np

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.decision.evidence import Weight
from ouroloop.monitors.decision.guards import Guard
from ouroloop.monitors.decision.records import Bets, StreamId

# Simulated (decision 032): at 2.25 an unchanged model is asked for half a draw more a round; 1.75
# asks for almost one more, and 3 for a third, which finds a fifth fewer of the sudden losses.
BEGUN = 2.25
"""S of all streams together from which on one more draw is worth its cost."""

# exp overflows from 709.8 on. A few thousand samples that all become wrong bring more.
MOST_LOG_E = 700.0
"""A stream's log e-value, at most, as it enters S: no limit lies as high."""


@dataclass(frozen=True)
class Nearness:
    """How near the evidence is to a limit after some draws of a round.

    Attributes:
        begun: S of all streams together, each by its share.
        halts: HALT's limit is reached: no further draw changes what happens.
    """

    begun: float
    halts: bool

    @property
    def is_near(self) -> bool:
        """Whether one more draw is worth its cost."""
        return self.begun >= BEGUN and not self.halts


CALM = Nearness(0.0, False)
"""Nothing was weighed."""


def begun(weight: Weight[StreamId], horizon: int, num_rounds: int) -> float:
    """S of all streams together.

    Args:
        weight: WATCH's evidence.
        horizon: T, rounds planned.
        num_rounds: n, rounds that the evidence is of.
    """
    rest = max(horizon - num_rounds, 0) / horizon
    shares = weight.share.items()
    e_of = {stream: exp(min(log_e, MOST_LOG_E)) for stream, log_e in weight.by_stream.items()}
    return horizon * sum(share * (e_of[stream] - rest) for stream, share in shares)


def added(draws: Sequence[Bets]) -> Bets:
    """The bets of all draws of a round, on the streams of the first one."""
    first, *further = draws
    return {
        stream: tuple(map(sum, zip(growth, *_of(further, stream), strict=True)))
        for stream, growth in first.items()
    }


def _of(draws: Sequence[Bets], stream: StreamId) -> list[tuple[float, ...]]:
    """A stream's bets in the draws that could measure it."""
    return [bets[stream] for bets in draws if stream in bets]


def joined(draws: Sequence[Sequence[Guard]]) -> list[Guard]:
    """The guards of the first draw with the blocks of all: for a reader of the numbers.

    A draw that lacks a problem is left out of a quantity's numbers; its bets count all the same.
    """
    first, *further = draws
    others: list[Mapping[StreamId, Guard]] = [{g.id: g for g in guards} for guards in further]
    return list(starmap(_joined, ((g, [o[g.id] for o in others if g.id in o]) for g in first)))


def _joined(guard: Guard, others: Sequence[Guard]) -> Guard:
    shape = guard.stream.block_PRM.shape[:2]
    same = [o.stream.block_PRM for o in others if o.stream.block_PRM.shape[:2] == shape]
    if not same:
        return guard
    block_PRM = np.concatenate([guard.stream.block_PRM, *same], axis=2)
    return replace(guard, stream=replace(guard.stream, block_PRM=block_PRM))


def unjudged(view: RoundView) -> RoundView:
    """The view without a frozen judge's verdicts, which are asked for after the last draw."""

    def plain(samples: Samples) -> Samples:
        return replace(samples, approvals={})

    draws = tuple(map(plain, view.draws))
    return replace(view, probe=plain(view.probe), draws=draws, judge=None)
