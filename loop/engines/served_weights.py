"""Which weights do an engine's log-probabilities come from: the new ones, the old ones, or others?

Pure arithmetic on three rows of log-probabilities (nats) of the same `_N` tokens of given texts:
`new_N` and `old_N` are computed from the two checkpoints' files, `served_N` is what the engine
says. What training changed is d = new - old; what the engine shows of it is the regression

    served - old = share * d + error.

The share is 1 when the new weights are served and 0 when the old ones are, whatever the dtype:
rounding lands in the error, and the error, measured on these very tokens, gives the share's
standard error: MacKinnon and White's HC3 (Journal of Econometrics 29, 1985), which allows a token's
rounding to depend on the token, and at least the classical one. In 16 bits one token in two
thousand is off by a nat or more, where least squares would rest on it alone: tokens with large
errors count for less, as Huber's (Annals of Mathematical Statistics 35, 1964).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# How far the share may lie from 1, or must lie from 0, in standard errors. Four are passed by
# chance once in 16,000 swaps.
SIGMAS = 4.0
# Rounding errors are not quite independent of d: a right engine's share was within this of 1.
SYSTEMATIC = 0.05
# A standard error above this cannot keep 0 and 1 apart: both would lie within SIGMAS of the half.
MOST_STANDARD_ERROR = 1 / (2 * SIGMAS)
# Standard deviation (nats) of the rounding of one log-probability: what to expect, and what proves
# other weights. docs/decisions/015-weight-sync.md says where they were measured.
ROUNDING = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.06}
MOST_ROUNDING = {"float32": 2e-3, "float16": 0.04, "bfloat16": 0.25}
# Below this (nats) two checkpoints are one: float32's own rounding is larger.
NO_CHANGE = 1e-7
# The median of a normal variable's absolute value, times this, is its standard deviation.
NORMAL = 1.4826
# Errors of more than so many standard deviations count for less: one normal error in eighty.
LARGE = 2.5
# Reweighting ends where the share moves no more, in ten steps or so.
MOST_STEPS, CONVERGED = 50, 1e-9
# Errors (nats) below this are arithmetic's own; and what may be divided by.
EXACT, TINY = 1e-9, 1e-300


class Verdict(StrEnum):
    """What the log-probabilities say about the engine."""

    NEW = "new"
    OLD = "old"
    OTHER = "other"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class Change:
    """How far apart two checkpoints are, before anything is served.

    Attributes:
        num_tokens: log-probabilities compared.
        rms: root mean square of new - old, in nats.
        bulk: the same without the twentieth that moved the most: in 16 bits those may be off by as
            much, and the share does not rest on them.
        largest: largest absolute difference, in nats.
        dtype: what an engine will compute in.
    """

    num_tokens: int
    rms: float
    bulk: float
    largest: float
    dtype: str

    @property
    def is_none(self) -> bool:
        """Whether both are the same model: there are no old weights that could be served."""
        return self.largest <= NO_CHANGE

    @property
    def expected_standard_error(self) -> float:
        """Of the share, at the dtype's usual rounding; infinite when nothing changed."""
        if self.bulk == 0 or self.is_none:
            return float("inf")
        return ROUNDING[self.dtype] / (self.bulk * math.sqrt(self.num_tokens))

    @property
    def has_power(self) -> bool:
        """Whether new and old can be expected to be kept apart, with a margin of two."""
        return self.expected_standard_error <= MOST_STANDARD_ERROR / 2

    @property
    def is_precise(self) -> bool:
        """Whether more tokens would catch no smaller part of a model that is not the new one.

        From here on SYSTEMATIC decides, not the standard error.
        """
        return SIGMAS * self.expected_standard_error <= SYSTEMATIC


@dataclass(frozen=True)
class Evidence:
    """What was served beside what should be.

    Attributes:
        num_tokens: log-probabilities compared.
        error: how far served and new lie apart, in nats: their median absolute difference, scaled
            to a normal's standard deviation. Of a text that makes no sense, one token in
            two thousand is off by a nat or more in bfloat16.
        share: of the change that is served; NaN without old weights or without a change.
        standard_error: of the share.
    """

    num_tokens: int
    error: float
    share: float
    standard_error: float


def change_between(new_N: Sequence[float], old_N: Sequence[float], dtype: str) -> Change:
    """How far training moved the log-probabilities, and whether `dtype` can show it."""
    d_N = np.asarray(new_N, dtype=np.float64) - np.asarray(old_N, dtype=np.float64)
    least_N = np.sort(np.abs(d_N))[: math.ceil(0.95 * len(d_N))]
    return Change(
        num_tokens=len(d_N),
        rms=float(np.sqrt(np.mean(d_N**2))),
        bulk=float(np.sqrt(np.mean(least_N**2))),
        largest=float(np.abs(d_N).max()),
        dtype=dtype,
    )


def weigh(
    served_N: Sequence[float], new_N: Sequence[float], old_N: Sequence[float] | None
) -> Evidence:
    """Compare served log-probabilities with the new weights', and the old ones' where known."""
    served, new = (np.asarray(x, dtype=np.float64) for x in (served_N, new_N))
    error = NORMAL * float(np.median(np.abs(served - new)))
    share, standard_error = float("nan"), float("nan")
    if old_N is not None:
        share, standard_error = _share(served, new, np.asarray(old_N, dtype=np.float64))
    return Evidence(len(new), error, share, standard_error)


def _share(served_N: FloatArray, new_N: FloatArray, old_N: FloatArray) -> tuple[float, float]:
    """Slope of served - old on new - old through the origin, and its standard error."""
    d_N, y_N = new_N - old_N, served_N - old_N
    if not np.isfinite(y_N).all() or np.abs(d_N).max(initial=0.0) <= NO_CHANGE:
        return float("nan"), float("nan")
    moved = d_N != 0
    # The slope with the least absolute errors, and their spread: over all tokens, and over those
    # that moved, of which a few may have none because they carry the slope.
    share = _median(y_N[moved] / d_N[moved], np.abs(d_N[moved]))
    error_N = np.abs(y_N - share * d_N)
    scale = max(EXACT, NORMAL * max(float(np.median(error_N)), _median(error_N, np.abs(d_N))))
    for _ in range(MOST_STEPS):
        before, weight_N = share, _huber(y_N - share * d_N, scale)
        share = float(weight_N * d_N @ y_N) / float(weight_N * d_N @ d_N)
        if abs(share - before) <= CONVERGED:
            break
    error_N = y_N - share * d_N
    weight_N = _huber(error_N, scale)
    # What is known of the share comes from the tokens that count in full.
    known = max(float(np.sum(d_N[weight_N == 1] ** 2)), TINY)
    # Leverage: a token with all of d fits the line by itself, so its own error says nothing.
    free_N = np.maximum(1.0 - weight_N * d_N**2 / float(weight_N * d_N @ d_N), 1e-12)
    felt_N = weight_N * error_N
    robust = float(np.sqrt(np.sum((d_N * felt_N / free_N) ** 2))) / known
    # Its error is then 0, which HC3 takes for exactness; the classical one knows the others'.
    classical = float(np.sqrt(felt_N @ felt_N / max(1, len(d_N) - 1) / known))
    return share, max(robust, classical)


def _median(value_N: FloatArray, weight_N: FloatArray) -> float:
    """The weighted median."""
    order = np.argsort(value_N)
    up_to = np.cumsum(weight_N[order])
    return float(value_N[order][np.searchsorted(up_to, up_to[-1] / 2)])


def _huber(error_N: FloatArray, scale: float) -> FloatArray:
    """1 for errors up to LARGE standard deviations, less in proportion beyond."""
    largest = LARGE * scale
    return np.where(np.abs(error_N) <= largest, 1.0, largest / np.maximum(np.abs(error_N), TINY))


def judge(evidence: Evidence, dtype: str) -> Verdict:
    """The verdict on an engine that computes in `dtype`."""
    is_near = evidence.error <= MOST_ROUNDING[dtype]
    # Nothing to tell apart (a base model, a training without effect): nearness is all there is.
    if np.isnan(evidence.share):
        # NaN log-probabilities are near nothing.
        return Verdict.NEW if is_near else Verdict.OTHER
    width = SIGMAS * evidence.standard_error
    if is_near and evidence.standard_error > MOST_STANDARD_ERROR:
        return Verdict.UNPROVEN
    if is_near and abs(evidence.share - 1) <= width + SYSTEMATIC:
        return Verdict.NEW
    if abs(evidence.share) <= width + SYSTEMATIC:
        return Verdict.OLD
    return Verdict.OTHER
