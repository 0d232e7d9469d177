"""Evidence over rounds that a guarded quantity is worse than tolerated.

It consists of e-processes, which are valid whenever one looks. Knows nothing of monitors: a
stream's key may be anything. What a round's bets on one stream are is in `stakes.py`.

Suffixes: `_S` streams, `_R` rounds, `_B` bets, `_C` cells of the baseline's error. Every logarithm
is natural. An e-process is a bet against "healthy" that cannot be expected to win while it is true:
P(it ever reaches 1 / alpha) <= alpha (Ville), whatever the dependence between rounds and whenever
one stops.

Source: Podkopaev & Ramdas 2110.06177 (a tolerated change is no alarm); Shin et al. 2203.03532
(mixtures over the unknown start); Vovk & Wang 1912.06116 (means of e-values).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, pi
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.decision.stakes import BASELINE_SHARE, LOG_PAY_C, Floats, log_sum

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Weight(Generic[Key]):
    """The evidence so far.

    Attributes:
        log_e: of all streams together, their mean weighted by `share`.
        by_stream: of each.
        since: index of the driver's likeliest first round.
        share: each stream's share of the mean.
    """

    log_e: float
    by_stream: Mapping[Key, float] = field(default_factory=dict)
    since: int = 0
    share: Mapping[Key, float] = field(default_factory=dict)

    def brought(self, stream: Key) -> float:
        """What the stream brings to the mean: its own log e-value and the log of its share."""
        return self.by_stream[stream] + log(self.share[stream])

    @property
    def driver(self) -> Key:
        """The stream that brings the most evidence."""
        return max(self.by_stream, key=self.brought)


def weigh(
    rounds: Sequence[Mapping[Key, Sequence[float]]],
    horizon: int,
    num_streams: int = 0,
    first: Mapping[Key, float] | None = None,
    log_pay_C: Floats = LOG_PAY_C,
) -> Weight[Key]:
    """The e-process of every stream after these rounds, and their mean.

    In each cell a stream mixes over bets and over the round in which the loss may have begun,
    evenly over `horizon` rounds: E_t = (1 / T) [ sum_{j <= t} mean_B exp(sum_{u = j..t} L_u) + T -
    t ]. Its evidence is the least of f E_t over the cells.

    Args:
        rounds: stream -> log growth of each bet of each cell, one mapping per round, oldest first.
            The streams are those of the last; where an earlier round lacks one, nothing was bet on
            it.
        horizon: T, rounds planned. When more have passed, no new beginning is bet on, the old ones
            go on: other shares for more rounds than were planned would not be fixed before the run.
        num_streams: streams planned; each that is not there yet counts as one that has won nothing.
        first: shares of the mean that some streams get ahead of the others, which share the rest
            evenly; fixed before the run.
        log_pay_C: log f of each cell.
    """
    if not rounds[-1] and not num_streams:
        return Weight(0.0)
    # Every stream by itself; their mean is again an e-process.
    log_e_S, since_S = _mixed(rounds, horizon, log_pay_C)
    by_stream = dict(zip(rounds[-1], log_e_S.tolist(), strict=True))
    since = dict(zip(rounds[-1], since_S.tolist(), strict=True))
    share = shares(list(by_stream), num_streams, first or {})
    unspent = 1 - sum(share.values())
    parts = [by_stream[stream] + log(share[stream]) for stream in by_stream]
    # 1e-9: what rounding leaves of shares that sum to 1 is no stream. One that has won nothing is
    # worth what its cheapest cell is.
    parts += [log(unspent) + float(log_pay_C.min())] if unspent > 1e-9 else []
    weight = Weight(float(log_sum(np.array(parts))), by_stream, 0, share)
    return replace(weight, since=since[weight.driver]) if since else weight


def _mixed(
    rounds: Sequence[Mapping[Key, Sequence[float]]],
    horizon: int,
    log_pay_C: Floats,
) -> tuple[Floats, NDArray[np.int64]]:
    """Each stream's log e-value, and the index of its likeliest first round, (S,)."""
    if not rounds[-1]:
        return np.empty(0), np.empty(0, dtype=np.int64)
    # A round without a bet multiplies by 1.
    nothing = np.zeros(len(next(iter(rounds[-1].values()))))
    growth_RSN = np.array([[r.get(s, nothing) for s in rounds[-1]] for r in rounds], dtype=float)
    growth_RSCB = growth_RSN.reshape(*growth_RSN.shape[:2], len(log_pay_C), -1)
    # Growth from each round up to now: a loss may have begun in any of them.
    since_RSCB = np.cumsum(growth_RSCB[::-1], axis=0)[::-1]
    start_RSC = (log_sum(since_RSCB) - log(since_RSCB.shape[3]))[:horizon]
    log_e_SC = log_sum(start_RSC, axis=0)
    if horizon > len(rounds):
        log_e_SC = np.logaddexp(log_e_SC, log(horizon - len(rounds)))
    log_e_SC += log_pay_C - log(horizon)
    cell_S = log_e_SC.argmin(axis=1)
    each_S = np.arange(len(cell_S))
    # Of equal starts the latest: before its baseline nothing was bet on a stream.
    latest_S = start_RSC[::-1, each_S, cell_S].argmax(axis=0)
    return log_e_SC[each_S, cell_S], len(start_RSC) - 1 - latest_S


def shares(
    streams: Sequence[Key], num_streams: int, first: Mapping[Key, float]
) -> dict[Key, float]:
    """Each stream's share of the mean: they sum to 1 with those that are planned and not there.

    Args:
        streams: those that are there.
        num_streams: those that are planned.
        first: the shares of some, taken ahead if others are left to share the rest.
    """
    # If the named ones were all there are, nobody would take the rest.
    ahead = {stream: first[stream] for stream in streams if stream in first}
    num = max(len(streams), num_streams)
    if len(ahead) == num or sum(ahead.values()) >= 1:
        ahead = {}
    rest = (1 - sum(ahead.values())) / max(num - len(ahead), 1)
    return {stream: ahead.get(stream, rest) for stream in streams}


def log_limit(alpha: float) -> float:
    """What HALT's `log_e` must reach: log of 1 / (the alpha that is left over)."""
    return -log(alpha * (1 - BASELINE_SHARE))


def spent(alpha: float, epoch: int) -> float:
    """The alpha of the epoch-th fresh start (1, 2, ...): alpha * 6 / (pi epoch)^2.

    The inverse squares sum to pi^2 / 6, so this sums to alpha over all fresh starts, and no number
    of rollbacks has to be fixed before the run.
    """
    return alpha * 6 / (pi * epoch) ** 2
