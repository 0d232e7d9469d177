"""Two monitors of 2026, written after their abstracts: neither is its authors' code.

What the abstracts leave open was chosen here, once, before any run was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import betabinom

from ouroloop.monitors.bench.alarms.detectors.thresholds import known_mean, mean_entropy
from ouroloop.monitors.bench.alarms.history import History, Round

Floats = NDArray[np.float64]

BINS = 10
"""Of the values between 0 and 1 that are compared with a uniform distribution."""


@dataclass
class PitMonitor:
    """An e-process that the probability integral transforms stay uniform.

    Source: PITMonitor (2603.13156), after its abstract: anytime-valid, for a change of a model's
    calibration. The prediction of a problem's right answers is the beta-binomial of its baseline
    counts; the bet against uniform is a histogram learnt as it goes, over all possible first
    rounds. Two-sided, as published: a better model is a change.

    Attributes:
        name: of the table.
        counts_: values in each bin, of every round so far.
    """

    name: str = "PITMonitor (after the abstract)"
    counts_: list[Floats] = field(default_factory=list)

    def score(self, history: History) -> float:
        """See `Detector`."""
        for now in history.rounds[1 + len(self.counts_) :]:
            values_P = transforms(history.baseline, now, len(self.counts_))
            found, _ = np.histogram(values_P, bins=BINS, range=(0, 1))
            self.counts_.append(found.astype(float))
        # Counts since each possible first round, the latest one first.
        since_TB = np.cumsum(self.counts_[::-1], axis=0)
        # The marginal likelihood of a histogram with a flat prior, over that of uniform values.
        num_T = since_TB.sum(axis=1)
        log_T = gammaln(BINS) - gammaln(BINS + num_T) + gammaln(1 + since_TB).sum(axis=1)
        log_T = log_T + num_T * np.log(BINS)
        later = history.planned - len(log_T)
        total = logsumexp(log_T)
        if later > 0:
            total = np.logaddexp(total, np.log(later))
        return float(total - np.log(max(history.planned, len(log_T))))


def transforms(baseline: Round, now: Round, number: int) -> Floats:
    """Randomised probability integral transforms of each problem's number of right answers."""
    right_P, before_P = now.right_P * now.num_P, baseline.right_P * baseline.num_P
    known_P = np.isfinite(right_P) & np.isfinite(before_P)
    right_P, num_P = right_P[known_P], now.num_P[known_P]
    # Half a right and half a wrong answer beforehand (Jeffreys): no prediction is certain.
    a_P = 0.5 + before_P[known_P]
    b_P = 0.5 + (baseline.num_P[known_P] - before_P[known_P])
    below_P, at_P = (betabinom.cdf(right_P - less, num_P, a_P, b_P) for less in (1, 0))
    # Counts are discrete: a uniform number between the two steps makes the transform uniform.
    # Seeded by the round: a score must not change when it is asked for again.
    uniform_P = np.random.default_rng(number).random(len(right_P))
    return np.asarray(below_P + uniform_P * (at_P - below_P))


@dataclass
class Mtr:
    """A trust that falls with entropy, with drift from the baseline, and with the tail's coverage.

    Source: "Silent collapse" (2605.14588), after its abstract, which names the three signals. Each
    is a share of the baseline's; their mean is smoothed over rounds. Entropy and drift are those
    of strategies: the traces hold no token probabilities.

    Attributes:
        name: of the table.
        memory: weight of the rounds before.
        lost_: the mean loss of every round so far.
    """

    name: str = "MTR (after the abstract)"
    memory: float = 0.5
    lost_: list[float] = field(default_factory=list)

    def score(self, history: History) -> float:
        """See `Detector`."""
        for now in history.rounds[1 + len(self.lost_) :]:
            self.lost_.append(_lost(history.baseline, now))
        distrust = 0.0
        for lost in self.lost_:
            distrust = self.memory * distrust + (1 - self.memory) * lost
        return distrust


def _lost(baseline: Round, now: Round) -> float:
    """Mean of three losses, each in [0, 1] where there is any."""
    num_samples = int(now.num_P.max())
    if num_samples == 0:
        return 0.0
    # Equally many samples on both sides, for entropies by counting depend on the number.
    entropies = [mean_entropy(of, num_samples) for of in (baseline, now)]
    tails = [known_mean(of.tail_solved_P) for of in (baseline, now) if len(of.tail_P)]
    ratios = [now / then for then, now in (entropies, tails or (1.0, 1.0)) if then > 0]
    return float(np.mean([*(1 - ratio for ratio in ratios), _drift(baseline, now)]))


def _drift(baseline: Round, now: Round) -> float:
    """Total variation between the strategies of all problems together."""
    shares = [of.all_PS.sum(axis=0) / max(int(of.all_PS.sum()), 1) for of in (baseline, now)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
