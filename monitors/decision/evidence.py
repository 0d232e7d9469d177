"""Evidence over rounds that a guarded quantity is worse than tolerated.

It consists of e-processes, which are valid whenever one looks. Knows nothing of monitors: a
stream's key may be anything.

Suffixes: `_P` problems, `_R` ways to cut a problem's samples into blocks, `_M` blocks, `_B` bets.
Every logarithm is natural. An e-process is a bet against "healthy" that cannot be expected to win
while it is true: P(it ever reaches 1 / alpha) <= alpha (Ville), whatever the dependence between
rounds and whenever one stops.

A block's score y in [0, 1] has the mean mu_i of its problem i; disjoint blocks and different
problems are independent given the round's model. For one bet lambda per round, the expectation of
prod_i prod_m (1 + lambda (b_i - delta - y_im)) is prod_i (1 + lambda (b_i - delta - mu_i))^M, by
the inequality of arithmetic and geometric means at most (1 + lambda (mean b - delta - mean mu))^(P
M): at most 1 while mean mu >= mean b - delta. No problem need be like another. Averaging a
problem's product over several ways to cut its samples keeps the expectation, and wins back what
disjoint blocks lose against all pairs. Problems with unequal numbers M_i of blocks get bets
lambda_i in proportion to 1 / M_i, so that each counts alike: (1 + lambda_i x_i)^M_i <= exp(lambda_i
M_i x_i), whose product over problems is at most 1 while the plain mean of x_i is at most 0.

Source: Podkopaev & Ramdas 2110.06177 (a tolerated change is no alarm); Waudby-Smith & Ramdas
2010.09686 (betting on bounded means); Shin et al. 2203.03532 (mixtures over the unknown start);
Vovk & Wang 1912.06116 (means of e-values). Ours: unlike problems, blocks, means over cuts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log, pi
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

# The best bet is near (loss beyond the tolerance) / (variance of a block score): 0.04 for a point
# of pass@1 at 50 %. A bet of 1 could lose everything to one problem, so the largest is 0.9. A mean
# of five bets costs at most log 5 = 1.6 nats beside the best of them, once in a run.
BETS_B = np.array([0.03, 0.1, 0.3, 0.6, 0.9])
"""Shares of the largest bet that can never lose all.

Small ones win on large probe sets, large ones on clear losses.
"""
# The more of alpha it pays, the fewer standard errors are added to every tolerance (at alpha 0.05
# and nine streams 3.1 of them), but the higher the limit: log(1 / 0.8) = 0.22 nats at a fifth.
BASELINE_SHARE = 0.2
"""Share of alpha that pays for the baseline being a sample itself."""


@dataclass(frozen=True)
class Stream:
    """One guarded quantity of one round beside a frozen baseline, turned so that up is good.

    Attributes:
        baseline_P: the baseline's mean block score per problem, in [0, 1].
        block_PRM: this round's block scores in [0, 1]; NaN: no such block.
        baseline_se: standard error of mean(baseline_P) from the sampling within problems alone
            (the problems are fixed).
        tolerance: how much the mean may fall; a share of the baseline's mean if `relative`.
        relative: see `tolerance`.
        spare: how far the baseline's own mean lies above mean(baseline_P) where that is a fixed
            ceiling: so much of its noise does no harm.
        num_picks: how many means of the baseline the run may compare with, if what is measured is
            picked anew in every round (on other samples of both sides, see `widened`).
    """

    baseline_P: Floats
    block_PRM: Floats
    baseline_se: float
    tolerance: float
    relative: bool = False
    spare: float = 0.0
    num_picks: int = 1

    @cached_property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Blocks of every problem and cut, (P, R), and how many of them score 1.

        The second is None if some score lies between 0 and 1.
        """
        # Scores of 0 and 1, the usual case, need only be counted.
        num_PR = np.isfinite(self.block_PRM).sum(axis=2)
        ones_PRM = self.block_PRM == 1
        whole = ones_PRM.sum() + (self.block_PRM == 0).sum() == num_PR.sum()
        return num_PR, ones_PRM.sum(axis=2) if whole else None

    def tolerated(self, share: float, z: float) -> float:
        """The loss below mean(baseline_P) that is tolerated.

        Args:
            share: of the tolerance.
            z: standard errors of the baseline that are added.
        """
        noise = widened(z, self.num_picks) * self.baseline_se
        # The baseline would have to be wrong by more than `spare` before the ceiling is.
        if self.spare > 0:
            noise = max(noise - self.spare, 0.0)
        # If the true baseline is lower by `noise`, so is the share of it that may be lost.
        if self.relative:
            part = share * self.tolerance
            return part * float(self.baseline_P.mean()) + (1 - part) * noise
        return share * self.tolerance + noise


def baseline_z(alpha: float, num_streams: int) -> float:
    """Standard errors that no stream's baseline mean exceeds.

    Except with probability BASELINE_SHARE * alpha in all (normal, Bonferroni).
    """
    return float(-ndtri(BASELINE_SHARE * alpha / max(num_streams, 1)))


def widened(z: float, num_picks: int) -> float:
    """Standard errors that none of `num_picks` means exceeds, where one does not exceed z.

    Bonferroni again. A score that is picked anew in every round (the cluster that fell most, the
    openings that grew most) compares another mean of the baseline every time. Each pick is made on
    other samples of the baseline than its mean is taken of, so the mean's error is independent of
    the pick, however many candidates there were: one event per round has to be paid for.
    """
    if num_picks <= 1 or z == 0:
        return z
    wide = -float(ndtri(ndtr(-abs(z)) / num_picks))
    return wide if z > 0 else -wide


def loss_factors(
    stream: Stream,
    share: float,
    z: float,
) -> Floats:
    """Log growth of every bet on "the mean has fallen by more than tolerated"; shape (B,).

    While it has not, the expectation of each bet's growth is at most 1.
    """
    tolerated = stream.tolerated(share, z)
    return _grow(stream, stream.baseline_P - tolerated, 1.0, 1 + tolerated)


def recovery_factors(
    stream: Stream,
    share: float,
    z: float,
) -> Floats:
    """Log growth of every bet on "the mean is back within the tolerance"; shape (B,).

    While it is not, the expectation of each bet's growth is at most 1.
    """
    # -z: here the baseline's noise would be an excuse, so it is taken off the tolerance.
    allowed = stream.tolerated(share, -z)
    return _grow(
        stream,
        stream.baseline_P - allowed,
        -1.0,
        1 + abs(allowed),
    )


def _grow(
    stream: Stream,
    level_P: Floats,
    sign: float,
    worst: float,
) -> Floats:
    """sum_P log mean_R prod_M (1 + lambda gain) for each bet lambda, gain = sign (level - block).

    No gain lies below -worst. No block, no bet.
    """
    num_PR, _ = stream.counts
    if not num_PR.any():
        return np.zeros(len(BETS_B))
    least, most = int(num_PR[num_PR > 0].min()), int(num_PR.max())
    # The common case, every problem with as many blocks, needs one bet for all of them.
    even = least == most and bool(num_PR.all())
    share_PR = np.ones((1, 1))
    if not even:
        share_PR = least / np.maximum(num_PR, 1)
    log_BPR = _products(
        stream,
        level_P,
        sign,
        (BETS_B / worst)[:, None, None] * share_PR,
    )
    if even:
        return np.asarray((log_sum(log_BPR) - log(num_PR.shape[1])).sum(axis=1))
    some_P = num_PR.any(axis=1)
    cuts_P = (num_PR > 0).sum(axis=1)[some_P]
    mean_BP = log_sum(np.where(num_PR > 0, log_BPR, -np.inf)[:, some_P]) - np.log(cuts_P)
    return np.asarray(mean_BP.sum(axis=1))


def _products(
    stream: Stream,
    level_P: Floats,
    sign: float,
    bet_BPR: Floats,
) -> Floats:
    """Logarithm of prod_M (1 + bet gain), (B, P, R).

    Scores of 0 and 1 are counted instead of multiplied one by one: the same number, much sooner.
    """
    num_PR, ones_PR = stream.counts
    if ones_PR is not None:
        won_BPR, lost_BPR = (np.log1p(bet_BPR * sign * (level_P[:, None] - y)) for y in (1.0, 0.0))
        return np.asarray(ones_PR * (won_BPR - lost_BPR) + num_PR * lost_BPR)
    gain_PRM = np.nan_to_num(sign * (level_P[:, None, None] - stream.block_PRM))
    return np.stack([np.log1p(bet_PR[..., None] * gain_PRM).sum(axis=2) for bet_PR in bet_BPR])


def log_sum(log_x: Floats) -> Floats:
    """Log sum exp over the last axis; some of it is finite."""
    # The largest is taken out first, or exp would overflow.
    most = log_x.max(axis=-1, keepdims=True)
    return np.asarray(most[..., 0] + np.log(np.exp(log_x - most).sum(axis=-1)))


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
) -> Weight[Key]:
    """The e-process of every stream after these rounds, and their mean.

    Each stream mixes over bets and over the round in which the loss may have begun, evenly over
    `horizon` rounds: E_t = (1 / T) [ sum_{j <= t} mean_B exp(sum_{u = j..t} L_u) + T - t ].

    Args:
        rounds: stream -> log growth of each bet, one mapping per round, oldest first. The streams
            are those of the last; where an earlier round lacks one, nothing was bet on it.
        horizon: T, rounds planned. When more have passed, no new beginning is bet on, the old ones
            go on: other shares for more rounds than were planned would not be fixed before the run.
        num_streams: streams planned; each that is not there yet counts as one that has won nothing
            (e = 1).
        first: shares of the mean that some streams get ahead of the others, which share the rest
            evenly; fixed before the run.
    """
    if not rounds[-1] and not num_streams:
        return Weight(0.0)
    by_stream: dict[Key, float] = {}
    since: dict[Key, int] = {}
    for stream in rounds[-1]:
        # Every stream by itself; their mean is again an e-process.
        by_stream[stream], since[stream] = _mixed(rounds, stream, horizon)
    share = shares(list(by_stream), num_streams, first or {})
    unspent = 1 - sum(share.values())
    parts = [by_stream[stream] + log(share[stream]) for stream in by_stream]
    # 1e-9: what rounding leaves of shares that sum to 1 is no stream.
    parts += [log(unspent)] if unspent > 1e-9 else []
    weight = Weight(
        float(log_sum(np.array(parts))),
        by_stream,
        0,
        share,
    )
    if not since:
        return weight
    return Weight(weight.log_e, by_stream, since[weight.driver], share)


def _mixed(
    rounds: Sequence[Mapping[Key, Sequence[float]]],
    stream: Key,
    horizon: int,
) -> tuple[float, int]:
    """One stream's log e-value, and the index of its likeliest first round."""
    nothing = np.zeros(len(rounds[-1][stream]))
    # A round without a bet multiplies by 1.
    growth_RB = np.array([r.get(stream, nothing) for r in rounds], dtype=float)
    # Growth from each round up to now: a loss may have begun in any of them.
    since_RB = np.cumsum(growth_RB[::-1], axis=0)[::-1]
    start_R = (log_sum(since_RB) - log(since_RB.shape[1]))[:horizon]
    rest = [log(horizon - len(rounds))] if horizon > len(rounds) else []
    log_e = float(log_sum(np.array([*start_R, *rest]))) - log(horizon)
    # Of equal starts the latest: before its baseline nothing was bet on a stream.
    return log_e, len(start_R) - 1 - int(np.argmax(start_R[::-1]))


def shares(
    streams: Sequence[Key],
    num_streams: int,
    first: Mapping[Key, float],
) -> dict[Key, float]:
    """Each stream's share of the mean, in (0, 1].

    They sum to 1, less the even shares of those streams that are planned and not there yet.

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
    """What `log_e` must reach: log of 1 / (the alpha that the baseline's own noise left over)."""
    return -log(alpha * (1 - BASELINE_SHARE))


def spent(alpha: float, epoch: int) -> float:
    """The alpha of the epoch-th fresh start (1, 2, ...): alpha * 6 / (pi epoch)^2.

    The inverse squares sum to pi^2 / 6, so this sums to alpha over all fresh starts, and no number
    of rollbacks has to be fixed before the run.
    """
    return alpha * 6 / (pi * epoch) ** 2


def plain(log_e: float) -> str:
    """An e-value for a sentence: 3 digits below a thousand, powers of ten above."""
    return f"{exp(log_e):.3g}" if log_e < log(1000) else f"1e{log_e / log(10):.0f}"
