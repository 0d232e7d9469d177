"""Two halves of a problem's samples: one to pick something on, the other to measure it.

What is picked on the samples that it is measured on looks better, or worse, than it is (the
winner's curse). The decision rule needs one fixed split, for it bets on the measured half; this is
that split, so that a reading and the rule's sentence give the same number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.order import permuted


def first_half(samples: Samples) -> NDArray[np.bool_]:
    """Which rows are in the half to pick on, (N,); every problem has at most as many there.

    The order of a problem's rows is random and decided by their content alone (`permuted`). The
    half is each problem's own.

    Args:
        samples: scored rows only.
    """
    problem_N = codes(samples.problem)[1]
    size_P = np.bincount(problem_N)
    right_N = samples.correct == 1
    strategy_N, answer_N = codes(samples.strategy)[1], codes(samples.answer)[1]
    # The fields that the tables of the decision rule hold, and no others: their order is the same.
    order_N = permuted(problem_N, right_N, strategy_N, answer_N)
    place_N = np.arange(len(samples)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    first_N = np.zeros(len(samples), dtype=bool)
    # As the decision rule's tables are split.
    first_N[order_N[place_N < np.repeat(size_P // 2, size_P)]] = True
    return first_N
