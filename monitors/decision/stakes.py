"""One round's bets on one guarded quantity: how much each grows.

Knows nothing of other rounds or quantities; `evidence.py` puts them together.

Suffixes: `_P` problems, `_R` ways to cut a problem's samples into blocks, `_M` blocks, `_B` bets,
`_C` cells of the baseline's error. Every logarithm is natural.

A block's score y in [0, 1] has the mean mu_i of its problem i; disjoint blocks and different
problems are independent given the round's model. For one bet lambda per round, the expectation of
prod_i prod_m (1 + lambda (b_i - delta - y_im)) is prod_i (1 + lambda (b_i - delta - mu_i))^M, by
the inequality of arithmetic and geometric means at most (1 + lambda (mean b - delta - mean mu))^(P
M): at most 1 while mean mu >= mean b - delta. No problem need be like another. Averaging a
problem's product over several ways to cut its samples keeps the expectation, and wins back what
disjoint blocks lose against all pairs. Problems with unequal numbers M_i of blocks get bets
lambda_i in proportion to 1 / M_i, so that each counts alike: (1 + lambda_i x_i)^M_i <= exp(lambda_i
M_i x_i), whose product over problems is at most 1 while the plain mean of x_i is at most 0.

The baseline is a sample, too: its mean lies z standard errors above its expectation. The line of z
is cut into cells (z', z_c], and for each cell the same bets are made against a baseline that is
lower by z_c standard errors (or by less, see `baseline_error.py`). E = min_c f_c E_c, where f_c is
what cell c is paid for. Whichever cell the error lies in, E <= f_c E_c there, and E_c is an
e-process given the baseline; so the expectation of E is at most sum_c P(cell c) f_c = 1: the error
is paid for once in a run, together with the evidence, instead of in full every round (decision
021).

Source: Waudby-Smith & Ramdas 2010.09686 (betting on bounded means); Wasserman et al. 1912.11436
(the least of e-values over an unknown parameter). Ours: unlike problems, blocks, means over cuts,
cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ouroloop.monitors.decision.baseline_error import HOEFFDING_SHARE, limits

Floats = NDArray[np.float64]

# The best bet on a loss that lies D standard errors of a round's mean beyond its tolerance is D of
# these units, so that four bets serve probe sets of every size. A mean of four bets costs at most
# log 4 = 1.4 nats beside the best of them, once in a run.
BETS_B = np.array([0.5, 1.0, 2.0, 4.0])
"""Bets, in one over the standard error of a round's mean times its number of blocks."""
# A bet of 1 could lose everything to one problem.
LARGEST_BET = 0.9
"""Share of the largest bet that can never lose all."""

Z_C = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0])
"""Upper ends of the cells, in standard errors by which the baseline's mean is too high."""
# Paying a fifth for the first, harmless cell and the rest evenly was the best of what was tried.
FIRST_CELL = 0.2
PAID_C = np.full(len(Z_C), (1 - FIRST_CELL) / (len(Z_C) - 1))
PAID_C[0] = FIRST_CELL
"""What is paid for each cell: P(cell) * f. They sum to 1."""
LOG_PAY_C = np.log(PAID_C / np.diff(ndtr(Z_C), prepend=0.0))
"""log f of each cell."""
# An error lies beyond an end if either of its two limits is wrong: 1 + s times as often. As f
# rises, sum_c P(cell c) f_c <= f_0 + (1 + s) sum_c (f_c - f_c-1) P(beyond c-1) = 1 + s (1 - f_0).
LOG_PAY_C -= np.log1p(HOEFFDING_SHARE * -np.expm1(LOG_PAY_C[0]))
# P(beyond the last cell) is 3e-7 a stream: at 5 % a hundredth of alpha pays for 1,700 streams.
BASELINE_SHARE = 0.01
"""Share of alpha that pays for a baseline that lies beyond the last cell."""


# z cannot exceed the root of the number of problems: of fewer, exact bets win more on a large loss.
LEAST_NORMAL = 20
"""Problems from which on graded scores are bet on as normal means."""


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
        df: degrees of freedom of `baseline_se`.
        num_picks: how many means of the baseline the run may compare with, if what is measured is
            picked anew in every round (on other samples of both sides, see `widened`).
        num_blocks: independent blocks of the baseline, see `limits`.
    """

    baseline_P: Floats
    block_PRM: Floats
    baseline_se: float
    tolerance: float
    relative: bool = False
    spare: float = 0.0
    num_picks: int = 1
    df: float = inf
    num_blocks: int = 0

    @property
    def is_nearly_normal(self) -> bool:
        """Whether `normal_factors` suits it: graded scores of enough problems."""
        return self.counts[1] is None and len(self.baseline_P) >= LEAST_NORMAL

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

    def tolerated(
        self, share: float, z_C: Floats, recovered: bool = False, proven: bool = True
    ) -> Floats:
        """The losses below mean(baseline_P) that are tolerated, (C,).

        Args:
            share: of the tolerance.
            z_C: standard errors that the baseline's mean may be wrong by; added to the tolerance.
            recovered: they are taken off: a bet on recovery may not profit from them.
            proven: see `limits`.
        """
        own = float(self.baseline_P.mean()) + self.spare
        mean = 1 - own if recovered else own
        known = (self.num_blocks, self.num_picks, self.df, proven)
        noise_C = limits(z_C, self.baseline_se, mean, *known)
        if recovered:
            noise_C = -noise_C
        if self.spare > 0:
            noise_C = np.maximum(noise_C - self.spare, 0.0)
        if self.relative:
            part = share * self.tolerance
            return np.asarray(part * float(self.baseline_P.mean()) + (1 - part) * noise_C)
        return share * self.tolerance + noise_C

    @cached_property
    def scale(self) -> float:
        """Blocks times the standard error of their mean: what one bet's growth varies by.

        From the baseline and from how many blocks there are, never from how they score.
        """
        seen_P = self.baseline_P
        # One block is 0 or 1 and shows no spread; the mean over problems bounds it.
        if self.baseline_se > 0 and 0 < self.num_blocks < 2 * len(seen_P):
            seen_P = seen_P.mean(keepdims=True)
        variance = float((seen_P * (1 - seen_P)).mean())
        num_P = self.counts[0].max(axis=1)
        num_P = num_P[num_P > 0]
        # Of problems with unequal numbers each weighs as the one with the fewest.
        return float(num_P.min()) * float(np.sqrt(variance * (1 / num_P).sum()))


def loss_factors(stream: Stream, share: float, z_C: Floats = Z_C, proven: bool = True) -> Floats:
    """Log growth of every bet on "the mean has fallen by more than tolerated"; shape (C, B).

    By expectation no bet of cell c gains while it has not, if the baseline is z_c too high at most.
    """
    tolerated_C = stream.tolerated(share, z_C, proven=proven)
    return _grow(stream, stream.baseline_P - tolerated_C[:, None], 1.0, 1 + tolerated_C)


def normal_factors(stream: Stream, share: float) -> Floats:
    """The growth of the same bets on normal means, lambda z - lambda^2 / 2 each; shape (C, B).

    z is the loss beyond what is tolerated, in standard errors. A bet of `loss_factors` has to be
    fair whatever a score in [0, 1] may do, and wins little on one that hardly varies, as a number
    of strategies among eight samples. This one is fair for many problems only: WATCH's, not HALT's.
    """
    num_PR, _ = stream.counts
    if not num_PR.any():
        return np.zeros((len(Z_C), len(BETS_B)))
    now_P = np.nanmean(stream.block_PRM, axis=(1, 2))
    lost_CP = stream.baseline_P - stream.tolerated(share, Z_C, proven=False)[:, None] - now_P
    # The baseline's own error is the cells' business.
    own = (len(now_P) * stream.baseline_se) ** 2
    seen_C = (lost_CP**2).sum(axis=1) - own
    # No less than the baseline's spread says: where a score is seldom above 0, none is by chance.
    known = own * stream.num_blocks / len(now_P) * float((1 / num_PR.max(axis=1)).mean())
    # 1e-9: neither varies at all.
    sd_C = np.sqrt(np.maximum(seen_C, max(known, 1e-9)))
    z_C = lost_CP.sum(axis=1) / sd_C
    return np.asarray(z_C[:, None] * BETS_B - BETS_B**2 / 2)


def recovery_factors(stream: Stream, share: float, z_C: Floats = Z_C) -> Floats:
    """Log growth of every bet on "the mean is back within the tolerance"; shape (C, B).

    By expectation no bet of cell c gains while it is not, if the baseline is z_c too low at most.
    """
    allowed_C = stream.tolerated(share, z_C, recovered=True)
    return _grow(stream, stream.baseline_P - allowed_C[:, None], -1.0, 1 + np.abs(allowed_C))


def _grow(stream: Stream, level_CP: Floats, sign: float, worst_C: Floats) -> Floats:
    """sum_P log mean_R prod_M (1 + lambda gain) for each cell and bet, (C, B).

    gain = sign (level - block); no gain of a cell lies below -worst.
    """
    num_PR, _ = stream.counts
    if not num_PR.any():
        return np.zeros((len(worst_C), len(BETS_B)))
    least, most = int(num_PR[num_PR > 0].min()), int(num_PR.max())
    # The common case, every problem with as many blocks, needs one bet for all of them.
    even = least == most and bool(num_PR.all())
    share_RP = np.ones((1, 1))
    if not even:
        # 0 where a problem has no such cut: it has fewer ways to be cut than others.
        share_RP = np.where(num_PR > 0, least / np.maximum(num_PR, 1), 0.0).T
    # 1e-9: a baseline of which every score is 0, or 1, does not vary.
    bet_CB = np.minimum(BETS_B / max(stream.scale, 1e-9), LARGEST_BET / worst_C[:, None])
    if even and num_PR.shape[1] > 1 and stream.counts[1] is not None:
        return np.asarray(_mean_products(stream, level_CP, sign, bet_CB).sum(axis=2))
    # A factor is at least 1 - LARGEST_BET, so that this many cannot underflow.
    if even and num_PR.shape[1] > 1 and most <= 200:
        return _mean_of_few(stream, level_CP, sign, bet_CB)
    log_CBRP = _products(stream, level_CP, sign, bet_CB[..., None, None] * share_RP)
    if num_PR.shape[1] == 1:
        return np.asarray(log_CBRP.sum(axis=(2, 3)))
    some_P = num_PR.any(axis=1)
    cuts_P = (num_PR > 0).sum(axis=1)[some_P]
    log_CBRP = np.where(num_PR.T > 0, log_CBRP, -np.inf)[..., some_P]
    return np.asarray((log_sum(log_CBRP, axis=2) - np.log(cuts_P)).sum(axis=2))


def _mean_products(stream: Stream, level_CP: Floats, sign: float, bet_CB: Floats) -> Floats:
    """Logarithm of mean_R prod_M (1 + bet gain) of equally many scores of 0 and 1, (C, B, P).

    A product depends on how many of its blocks score 1 alone, and few numbers are possible: a
    polynomial in the ratio of the two factors, a term for each number.
    """
    num_PR, ones_PR = stream.counts
    assert ones_PR is not None
    num = int(num_PR[0, 0])
    gain_CBP = sign * level_CP[:, None, :]
    lost_CBP = np.log1p(bet_CB[..., None] * gain_CBP)
    ratio_CBP = np.exp(np.log1p(bet_CB[..., None] * (gain_CBP - sign)) - lost_CBP)
    mean_CBP = np.broadcast_to((ones_PR == num).mean(axis=1), ratio_CBP.shape)
    for ones in reversed(range(num)):
        mean_CBP = mean_CBP * ratio_CBP + (ones_PR == ones).mean(axis=1)
    return np.asarray(np.log(mean_CBP) + num * lost_CBP)


def _mean_of_few(stream: Stream, level_CP: Floats, sign: float, bet_CB: Floats) -> Floats:
    """sum_P log mean_R prod_M (1 + bet gain) of equally many scores of any value, (C, B)."""
    # One block each: the factor is linear in it, so that its mean is the factor of the mean.
    if stream.block_PRM.shape[2] == 1:
        gain_CP = sign * (level_CP - stream.block_PRM[..., 0].mean(axis=1))
        return np.asarray(np.log1p(bet_CB[..., None] * gain_CP[:, None]).sum(axis=2))
    out = np.empty(bet_CB.shape)
    # Blocks first: sums over many short rows would take several times as long.
    block_MRP = np.ascontiguousarray(stream.block_PRM.T)
    for c, level_P in enumerate(level_CP):
        gain_MRP = np.nan_to_num(sign * (level_P - block_MRP))
        for b, bet in enumerate(bet_CB[c]):
            out[c, b] = np.log((1 + bet * gain_MRP).prod(axis=0).mean(axis=0)).sum()
    return out


def _products(stream: Stream, level_CP: Floats, sign: float, bet_CBRP: Floats) -> Floats:
    """Logarithm of prod_M (1 + bet gain), (C, B, R, P).

    Scores of 0 and 1 are counted instead of multiplied one by one: the same number, much sooner.
    """
    num_PR, ones_PR = stream.counts
    if ones_PR is not None:
        gain_CBRP = sign * level_CP[:, None, None, :]
        lost_CBRP = np.log1p(bet_CBRP * gain_CBRP)
        won_CBRP = np.log1p(bet_CBRP * (gain_CBRP - sign))
        return np.asarray(ones_PR.T * (won_CBRP - lost_CBRP) + num_PR.T * lost_CBRP)
    out = np.empty((*bet_CBRP.shape[:2], *num_PR.T.shape))
    for c, level_P in enumerate(level_CP):
        # Blocks first: sums over many short rows would take several times as long.
        gain_MRP = np.nan_to_num(sign * (level_P - stream.block_PRM.T))
        for b, bet_RP in enumerate(bet_CBRP[c]):
            out[c, b] = np.log1p(bet_RP * gain_MRP).sum(axis=0)
    return out


def log_sum(log_x: Floats, axis: int = -1) -> Floats:
    """Log sum exp over an axis; some of it is finite."""
    # The largest is taken out first, or exp would overflow.
    most = log_x.max(axis=axis, keepdims=True)
    return np.asarray(most.squeeze(axis) + np.log(np.exp(log_x - most).sum(axis=axis)))
