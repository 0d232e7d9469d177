"""Which weights do an engine's log-probabilities come from: the new ones, the old ones, or others?

Pure arithmetic on three rows of log-probabilities (nats) of the same `_N` tokens of given texts:
`new_N` and `old_N` are computed from the two checkpoints' files, `served_N` is what the engine
says. What training changed is d = new - old; what the engine shows of it is the regression

    served - old = share * d + error.

The share is 1 when the new weights are served and 0 when the old ones are, whatever the dtype:
rounding lands in the error, and the error, measured on these very tokens, gives the share's
standard error: MacKinnon and White's HC3 (Journal of Econometrics 29, 1985), which allows a token's
rounding to depend on the token, and at least the classical one.
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
        largest: largest absolute difference, in nats.
        dtype: what an engine will compute in.
    """

    num_tokens: int
    rms: float
    largest: float
    dtype: str

    @property
    def is_none(self) -> bool:
        """Whether both are the same model: there are no old weights that could be served."""
        return self.largest <= NO_CHANGE

    @property
    def expected_standard_error(self) -> float:
        """Of the share, at the dtype's usual rounding; infinite when nothing changed."""
        if self.is_none:
            return float("inf")
        return ROUNDING[self.dtype] / (self.rms * math.sqrt(self.num_tokens))

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
    return Change(
        num_tokens=len(d_N),
        rms=float(np.sqrt(np.mean(d_N**2))),
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
    d_N = new_N - old_N
    squared = float(d_N @ d_N)
    if np.abs(d_N).max(initial=0.0) <= NO_CHANGE:
        return float("nan"), float("nan")
    share = float(d_N @ (served_N - old_N)) / squared
    error_N = served_N - old_N - share * d_N
    # Leverage: a token with all of d fits the line by itself, so its own error says nothing.
    free_N = np.maximum(1.0 - d_N**2 / squared, 1e-12)
    robust = float(np.sqrt(np.sum((d_N * error_N / free_N) ** 2))) / squared
    # Its error is then 0, which HC3 takes for exactness; the classical one knows the others'.
    classical = float(np.sqrt(error_N @ error_N / max(1, len(d_N) - 1) / squared))
    return share, max(robust, classical)


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
