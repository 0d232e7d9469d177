"""One number and a threshold: what most loops that watch themselves do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.bench.alarms.history import History, Round


def known_mean(value_P: NDArray[np.float64]) -> float:
    """The mean over the problems that have a value; NaN where none has one."""
    known = value_P[np.isfinite(value_P)]
    return float(known.mean()) if known.size else np.nan


def mean_dcp(of: Round) -> float:
    """DCP, the mean over problems."""
    # NaN has a problem with fewer than two samples: it has no pair, which is not the same as 0.
    return known_mean(of.pairs_P)


def mean_entropy(of: Round, num_samples: int) -> float:
    """Entropy of the strategies, the mean over problems, by groups of so many samples; nats."""
    return known_mean(of.entropy_P(num_samples))


@dataclass(frozen=True)
class DcpOfBest:
    """How far DCP lies below its best so far, as a share: "DCP < c x its best"."""

    name: str = "DCP below its best"

    def score(self, history: History) -> float:
        """See `Detector`."""
        # `max` would keep a NaN that comes first, and drop one that comes later.
        best = np.fmax.reduce([mean_dcp(of) for of in history.rounds])
        return 1 - mean_dcp(history.now) / best if best > 0 else 0.0


@dataclass(frozen=True)
class Entropy:
    """How far the entropy of strategies lies below the baseline's, as a share."""

    name: str = "entropy"

    def score(self, history: History) -> float:
        """See `Detector`."""
        # The baseline has more samples, and an entropy by counting rises with their number.
        num_samples = int(history.now.num_P.max())
        before = mean_entropy(history.baseline, num_samples)
        return 1 - mean_entropy(history.now, num_samples) / before if before > 0 else 0.0
