"""How far the baseline's mean may lie from its expectation: the ends of the cells of `stakes.py`.

Two limits, and the nearer one counts. Student's t rests on the spread between a problem's samples;
where a few problems hold all of it, it has next to no degrees of freedom and says nothing (one of
60 answers that is unlike the others: 157 standard errors at z = 3). Hoeffding's limit rests on
nothing but scores in [0, 1] and independent samples, and holds for every number of them.

The spread that was seen is too small where the mean is too high by chance: a baseline that solves
all of 60 problems shows none, and is the likeliest of all to lie above its expectation. What is to
be proven therefore takes Student's limit with the spread at the limit itself: a mean that lies
lower by d lets a block's variance be larger by d at most (decision 041).

Source: Hoeffding 1963, theorem 1 (also of unlike variables) and section 5 (means over all cuts of a
sample into blocks); Wilson 1927 (the standard error at the limit, of a share). Ours: both at once,
and Wilson's for any score in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isinf

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, rel_entr, stdtrit

Floats = NDArray[np.float64]

# One limit that is wrong is enough for the nearer one to be wrong: both chances are paid for. A
# tenth costs Hoeffding's limit a fifth of its width at z = 3, and everybody 6 % of HALT's evidence.
HOEFFDING_SHARE = 0.1
"""The chance that Hoeffding's limit is wrong, as a share of the chance that Student's is."""

# From (0, 1) to 2 ** -40 of it: beyond any reading's digits.
HALVINGS = 40


def limits(
    z_C: Floats,
    se: float,
    mean: float,
    num_blocks: int = 0,
    num_picks: int = 1,
    df: float = np.inf,
    proven: bool = True,
) -> Floats:
    """What the mean exceeds its expectation by in no more cases than a normal one exceeds z, (C,).

    Args:
        z_C: standard errors, at least 0.
        se: standard error of the mean; 0: it is known exactly.
        mean: of scores in [0, 1]; 1 - mean for how far it may lie below its expectation.
        num_blocks: independent blocks that it is the mean of; 0: not known, Student's limit alone.
        num_picks: see `widened`.
        df: degrees of freedom of `se`.
        proven: with the spread at the limit itself, where the blocks are known; False: as seen.
    """
    known = (float(se), float(mean), int(num_blocks), int(num_picks), float(df), proven)
    return np.array(_limits(tuple(z_C.tolist()), *known))


# The baseline is frozen: both tiers ask for the same limits in every round.
@lru_cache(maxsize=512)
def _limits(
    z_C: tuple[float, ...],
    se: float,
    mean: float,
    num_blocks: int,
    num_picks: int,
    df: float,
    proven: bool,
) -> Floats:
    """What `limits` gives; not to be written to."""
    # z = 0 with one pick is 0, whatever the degrees of freedom.
    t_C = np.array([widened(z, num_picks, df) for z in z_C])
    if num_blocks == 0 or se == 0:
        return t_C * se
    # The d at which d = t sqrt(se^2 + d / blocks).
    half_C = t_C / (2 * num_blocks) if proven else np.zeros(len(t_C))
    student_C = t_C * (np.sqrt(se**2 + half_C**2) + half_C)
    tail_C = HOEFFDING_SHARE * ndtr(-np.array(z_C)) / max(num_picks, 1)
    rate_C = -np.log(tail_C) / num_blocks
    # The usual case, and the search takes a millisecond.
    if (student_C <= _at_least(mean, rate_C)).all():
        return student_C
    return np.minimum(student_C, hoeffding(mean, rate_C))


def hoeffding(mean: float, rate_C: Floats) -> Floats:
    """The d for which KL(mean || mean - d) = rate, (C,); at most `mean`.

    An expectation that lies lower gives such a mean with a chance below exp(-blocks x rate).
    """
    # `mean` itself is always far enough: the expectation is not below 0.
    near_C, far_C = np.zeros(len(rate_C)), np.full(len(rate_C), max(mean, 0.0))
    for _ in range(HALVINGS):
        middle_C = (near_C + far_C) / 2
        q_C = mean - middle_C
        inside_C = rel_entr(mean, q_C) + rel_entr(1 - mean, 1 - q_C) < rate_C
        near_C, far_C = np.where(inside_C, middle_C, near_C), np.where(inside_C, far_C, middle_C)
    return far_C


def _at_least(mean: float, rate_C: Floats) -> Floats:
    """What `hoeffding` is not below, without a search."""
    # KL(p || q) <= (p - q)^2 / (q (1 - q)), which reaches the rate sooner; solved for p - q.
    slope_C = rate_C * (2 * mean - 1)
    root_C = np.sqrt(slope_C**2 + 4 * (1 + rate_C) * rate_C * mean * (1 - mean))
    return np.asarray((slope_C + root_C) / (2 * (1 + rate_C)))


def widened(z: float, num_picks: int, df: float = np.inf) -> float:
    """Standard errors that none of `num_picks` means exceeds, where one does not exceed z >= 0.

    Bonferroni, and Student's t where few problems hold the error. A score that is picked anew in
    every round compares another mean of the baseline every time; each pick is made on other samples
    of the baseline, so that it is independent of the mean's error: one event a round is to be paid.
    """
    tail = ndtr(-z) / max(num_picks, 1)
    return -float(ndtri(tail) if isinf(df) else stdtrit(df, tail))


@dataclass(frozen=True)
class BaselineScores:
    """A score at the baseline, per problem.

    Attributes:
        mean_P: its mean; NaN: not measured.
        variance_P: the variance of that mean by sampling.
        num_P: the number of samples.
        num_groups: groups whose spread the variance is; below two it is an upper bound.
    """

    mean_P: Floats
    variance_P: Floats
    num_P: NDArray[np.int64]
    num_groups: int = 1

    def se(self, chosen_P: NDArray[np.bool_]) -> float:
        """Standard error of the mean over some problems, which are fixed.

        Never below that of 2 samples among all: no spread in a finite sample is no proof of
        certainty.
        """
        spread = float(np.sqrt(self.variance_P[chosen_P].sum())) / int(chosen_P.sum())
        return max(spread, 2 / max(int(self.num_P[chosen_P].sum()), 1))

    def df(self, chosen_P: NDArray[np.bool_]) -> float:
        """Degrees of freedom of `se` (Welch and Satterthwaite): few problems may hold all of it."""
        variance_P = self.variance_P[chosen_P]
        if self.num_groups < 2 or not variance_P.any():
            return float("inf")
        alike = float(variance_P.sum() ** 2 / (variance_P**2).sum())
        return (self.num_groups - 1) * alike

    def num_blocks(self, chosen_P: NDArray[np.bool_], size: int) -> int:
        """Independent blocks that the mean over some problems is at least the mean of."""
        # A mean over all cuts, and one over more blocks, are means of means over so many.
        return int(chosen_P.sum()) * int((self.num_P[chosen_P] // size).min())
