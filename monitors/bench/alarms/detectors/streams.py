"""Detectors of changes in a stream, fed the share of wrong answers of each round.

At their defaults and on 20 numbers river's never fire (river 0.26.1: its Page-Hinkley waits for 30
numbers). Here their statistic is the score, and the benchmark chooses the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.bench.alarms.history import History


def wrong_and_all(history: History) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(wrong answers, answers) of every round that has any: the others add nothing to a stream."""
    rounds = [of for of in history.rounds if of.num_P.any()]
    num_T = np.array([of.num_P.sum() for of in rounds], dtype=float)
    right_T = np.array([(of.main.right_PK & of.main.there_PK).sum() for of in rounds])
    return num_T - right_T, num_T


@dataclass(frozen=True)
class Adwin:
    """The log of the confidence at which ADWIN would cut its window after this round.

    Source: Bifet & Gavalda 2007, the bound with the window's variance. A window of single samples,
    cut between rounds only: within a round samples have no order. Two-sided, as published: an
    improvement is a change. It fires at confidence delta where the score exceeds log(2 / delta),
    less the logarithm of the number of possible cuts, which is the same for all runs.
    """

    name: str = "ADWIN"

    def score(self, history: History) -> float:
        """See `Detector`."""
        wrong_T, num_T = wrong_and_all(history)
        if len(num_T) < 2:
            return 0.0
        # Every cut between two rounds: samples before it, and after it.
        before_T, after_T = num_T.cumsum()[:-1], num_T[::-1].cumsum()[::-1][1:]
        first_T = wrong_T.cumsum()[:-1] / before_T
        last_T = wrong_T[::-1].cumsum()[::-1][1:] / after_T
        mean = wrong_T.sum() / num_T.sum()
        variance = mean * (1 - mean)
        harmonic_T = 1 / (1 / before_T + 1 / after_T)
        # |difference| = sqrt(2 v L / m) + 2 L / (3 m), solved for L.
        a_T, b_T = 2 / (3 * harmonic_T), np.sqrt(2 * variance / harmonic_T)
        root_T = (np.sqrt(b_T**2 + 4 * a_T * np.abs(first_T - last_T)) - b_T) / (2 * a_T)
        return float((root_T**2).max())


@dataclass(frozen=True)
class PageHinkley:
    """How far the cumulative deviation from the running mean lies above its minimum.

    Source: Page 1954, Hinkley 1971, as in river. delta: the change that is tolerated.
    """

    name: str = "Page-Hinkley"
    delta: float = 0.005

    def score(self, history: History) -> float:
        """See `Detector`."""
        wrong_T, num_T = wrong_and_all(history)
        share_T = wrong_T / num_T
        # The running mean, as in river: with the baseline's a slow change would count fully.
        mean_T = share_T.cumsum() / np.arange(1, len(share_T) + 1)
        sum_T = (share_T - mean_T - self.delta).cumsum()
        return float(sum_T[-1] - min(sum_T.min(), 0.0))
