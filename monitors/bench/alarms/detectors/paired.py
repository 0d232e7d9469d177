"""Classical tests on paired losses: each problem's score now, beside its score at the baseline.

All four read the same z-scores, those of `losses`. Paired: a hard problem is hard in both rounds,
and its difficulty is no noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from ouroloop.monitors.bench.alarms.history import History, Round

Floats = NDArray[np.float64]

SHARED = 3
"""Problems that a wrong answer must be given to: one alone has a z of 1, whatever its share."""


# The same pair of rounds is asked for by four detectors, and again after every later round.
@lru_cache(maxsize=256)
def losses(baseline: Round, now: Round) -> tuple[Floats, float]:
    """Standardised loss of each quantity, (Q,), and the baseline's share of its variance.

    The quantities: pass@1, pass@4 of the tail, DCP, ways among eight samples, pass@1 of the other
    families, and the growth of the wrong answer that is now the most frequent one. 0 where there is
    nothing to compare.
    """
    # The baseline's samples are the same in every round: that share of the noise never averages
    # out over rounds.
    sizes = [float(side.num_P.mean()) for side in (baseline, now)]
    shared = sizes[1] / max(sum(sizes), 1.0)
    pairs = [
        (baseline.right_P, now.right_P),
        (baseline.tail_solved_P, now.tail_solved_P),
        (baseline.pairs_P, now.pairs_P),
        (baseline.ways_P, now.ways_P),
        (baseline.others_P, now.others_P),
        _repeated(baseline, now),
    ]
    return np.array([_z(then_P - now_P) for then_P, now_P in pairs]), shared


def _z(loss_P: Floats) -> float:
    """Mean over standard error, problems being the clusters."""
    # Problems without samples on one side are left out of this quantity alone.
    loss_P = loss_P[np.isfinite(loss_P)]
    if len(loss_P) < 2 or not (spread := float(loss_P.std(ddof=1))):
        return 0.0
    return float(loss_P.mean() / spread * np.sqrt(len(loss_P)))


def _repeated(baseline: Round, now: Round) -> tuple[Floats, Floats]:
    """Share of each problem's samples that do not give today's most repeated wrong answer."""
    wrong_PK = now.main.there_PK & ~now.main.right_PK & (now.main.answer_PK >= 0)
    problem_N, _ = wrong_PK.nonzero()
    # One line for each answer and problem: how often it is given counts below.
    given = np.unique(np.column_stack([now.main.answer_PK[wrong_PK], problem_N]), axis=0)
    num_A = np.bincount(given[:, 0], minlength=max(len(now.main.labels), 1))
    share_A = np.where(num_A >= SHARED, now.main.wrong_share, 0.0)
    worst = int(share_A.argmax())
    if share_A[worst] == 0:
        return np.empty(0), np.empty(0)
    then_P, now_P = (
        ((side.main.answer_PK == worst) & ~side.main.right_PK & side.main.there_PK).sum(axis=1)
        / np.maximum(side.num_P, 1)
        for side in (baseline, now)
    )
    return 1 - then_P, 1 - now_P


def losses_so_far(history: History) -> tuple[Floats, float]:
    """Every round's z-scores, (T, Q), and the baseline's share of their variance."""
    found = [losses(history.baseline, now) for now in history.rounds[1:]]
    return np.array([z_Q for z_Q, _ in found]), float(np.mean([shared for _, shared in found]))


def variance_of_sum(num: NDArray[Any], shared: float) -> Floats:
    """Of the sum of z over so many rounds that share a baseline."""
    return np.asarray(num * (1 - shared) + num**2 * shared)


@dataclass(frozen=True)
class BonferroniZ:
    """The largest z of the round: what a test of every quantity in every round looks at."""

    name: str = "Bonferroni paired z"

    def score(self, history: History) -> float:
        """See `Detector`."""
        return float(losses(history.baseline, history.now)[0].max())


@dataclass(frozen=True)
class Cusum:
    """The largest cumulative sum of z less an allowance, begun anew at 0.

    Source: Page 1954. allowance: half the loss, in standard errors, that is to be seen soonest.
    """

    name: str = "CUSUM"
    allowance: float = 0.5

    def score(self, history: History) -> float:
        """See `Detector`."""
        z_TQ, _ = losses_so_far(history)
        sum_Q = np.zeros(z_TQ.shape[1])
        for z_Q in z_TQ:
            # Begun anew at 0: what was gained before is no credit against a loss.
            sum_Q = np.maximum(sum_Q + z_Q - self.allowance, 0.0)
        return float(sum_Q.max())


@dataclass(frozen=True)
class Glr:
    """The generalised likelihood ratio of a lasting loss, over all its possible first rounds.

    Source: Lorden 1971, for a normal mean, one-sided, with the baseline's noise shared by all
    rounds.
    """

    name: str = "GLR"

    def score(self, history: History) -> float:
        """See `Detector`."""
        z_TQ, shared = losses_so_far(history)
        num_T = np.arange(1.0, len(z_TQ) + 1)
        # Sums over the last n rounds, n = 1 ... T: every possible first round of a loss.
        sum_TQ = z_TQ[::-1].cumsum(axis=0)
        ratio_TQ = np.maximum(sum_TQ, 0.0) ** 2 / (2 * variance_of_sum(num_T, shared)[:, None])
        return float(ratio_TQ.max())


@dataclass(frozen=True)
class MixtureSprt:
    """Log of a mixture of likelihood ratios over sizes of a loss, first rounds and quantities.

    Source: Robbins 1970: sizes are half-normal. scale: their spread, in standard errors.
    """

    name: str = "mixture SPRT"
    scale: float = 1.0

    def score(self, history: History) -> float:
        """See `Detector`."""
        z_TQ, shared = losses_so_far(history)
        num_T1 = np.arange(1.0, len(z_TQ) + 1)[:, None]
        variance_T1 = variance_of_sum(num_T1, shared)
        # The sum of n rounds of mean m has mean n m: in the ratio both sides are over the variance.
        sum_TQ = num_T1 * z_TQ[::-1].cumsum(axis=0) / variance_T1
        precision_T1 = num_T1**2 / variance_T1
        width_T1 = 1 + self.scale**2 * precision_T1
        log_TQ = (
            np.log(2)
            - np.log(width_T1) / 2
            + self.scale**2 * sum_TQ**2 / (2 * width_T1)
            + log_ndtr(self.scale * sum_TQ / np.sqrt(width_T1))
        )
        # First rounds that are still to come have a ratio of 1.
        later = history.planned - len(z_TQ)
        total = logsumexp(log_TQ)
        if later > 0:
            total = np.logaddexp(total, np.log(later * z_TQ.shape[1]))
        return float(total - np.log(max(history.planned, len(z_TQ)) * z_TQ.shape[1]))
