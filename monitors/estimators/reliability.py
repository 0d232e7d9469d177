"""How far claimed confidence lies from truth: pure functions.

Everywhere confidence_N lies in [0, 1], and correct_N in {0, 1} or is a share.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from scipy.optimize import brentq

from ouroloop.monitors.estimators.stats import clopper_pearson

Floats = NDArray[np.float64]


def brier(
    confidence_N: Floats,
    correct_N: Floats,
    num_N: Floats,
) -> Floats:
    """Brier score per row, (confidence - correct)^2, less the noise of a share of `num` votes.

    NaN for num < 2. E[(c_hat - y)^2] = (c - y)^2 + c (1 - c) / num, and c_hat (1 - c_hat) / (num -
    1) estimates the last term without bias. num = infinity: an exact confidence, no correction.
    Single rows can be below 0; the mean is unbiased, range [0, 1].
    """
    noise_N = confidence_N * (1 - confidence_N) / np.where(num_N >= 2, num_N - 1, 1)
    square_N = (confidence_N - correct_N) ** 2
    return np.where(num_N >= 2, square_N - noise_N, np.nan)


def smooth_ece(
    confidence_N: Floats,
    correct_N: Floats,
    num_cells: int = 2048,
) -> float:
    """Smooth expected calibration error, in [0, 1]; 0 is calibrated. NaN without rows.

    Biased up by noise (0.05 at 200 rows).

    The residual (correct - confidence) / N, placed at its confidence, is smoothed by a Gaussian
    kernel reflected at 0 and 1; the error is the integral of its size, at the bandwidth sigma that
    equals the error itself. Reflection makes the kernel diagonal in the cosine basis, so it costs
    O(N + cells log cells); cells limit the resolution to 1 / num_cells. Source: Blasiok & Nakkiran
    2023 (2309.12236) (smooth ECE with a reflected Gaussian kernel, bandwidth at the fixed point).
    """
    if len(confidence_N) == 0:
        return float("nan")
    cell_N = np.clip((confidence_N * num_cells).astype(np.int64), 0, num_cells - 1)
    share_N = (correct_N - confidence_N) / len(confidence_N)
    residual = np.bincount(cell_N, weights=share_N, minlength=num_cells)
    spectrum = dct(residual, type=2)
    frequency = np.pi * np.arange(num_cells)

    def error(sigma: float) -> float:
        kernel = np.exp(-0.5 * (sigma * frequency) ** 2)
        return float(np.abs(idct(spectrum * kernel, type=2)).sum())

    # The error falls as the bandwidth grows, so there is one fixed point; it may lie beyond the
    # ends, below one cell or above the whole range.
    least = 1.0 / num_cells
    if error(least) <= least:
        return error(least)
    if error(1.0) >= 1.0:
        return 1.0
    return float(
        brentq(
            lambda sigma: error(sigma) - sigma,
            least,
            1.0,
            xtol=1e-6,
        )
    )


class Sums(NamedTuple):
    """Per bin (last axis): rows, and the sums of residual and correct and of their squares.

    The residual is confidence - correct.
    """

    num: Floats
    residual: Floats
    correct: Floats
    residual_square: Floats
    correct_square: Floats

    def less(self, other: Sums) -> Sums:
        """What is left without the rows of `other`."""
        return Sums(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class Parts(NamedTuple):
    """Brier = reliability - resolution + uncertainty (lower, higher, and what the task sets)."""

    reliability: Floats
    resolution: Floats
    uncertainty: Floats


def mass_bins(confidence_N: Floats, num_bins: int = 15) -> NDArray[np.int64]:
    """The equal-mass bin of each row, 0 ... num_bins - 1; equal confidences share a bin."""
    # Equal edges would make empty bins: confidences of few votes repeat.
    edges = np.unique(np.quantile(confidence_N, np.linspace(0, 1, num_bins + 1))[1:-1])
    return np.asarray(np.digitize(confidence_N, edges), dtype=np.int64)


def binned_sums(
    confidence_N: Floats,
    correct_N: Floats,
    cell_N: NDArray[np.int64],
    shape: tuple[int, ...],
) -> Sums:
    """Sums over the rows of each cell.

    Args:
        confidence_N: of each row.
        correct_N: of each row.
        cell_N: the flat index of the row's cell.
        shape: of the cells, bins last.
    """
    residual_N = confidence_N - correct_N
    num_cells = int(np.prod(shape))

    def summed(value_N: Floats) -> Floats:
        total = np.bincount(cell_N, weights=value_N, minlength=num_cells)
        return total.astype(float).reshape(shape)

    return Sums(
        num=summed(np.ones(len(cell_N))),
        residual=summed(residual_N),
        correct=summed(correct_N),
        residual_square=summed(residual_N**2),
        correct_square=summed(correct_N**2),
    )


def decompose(sums: Sums) -> Parts:
    """Murphy's parts of the Brier score over bins, each less its bias; leading axes are kept.

    NaN without a bin of two rows. Plug-in: reliability sum_b w_b r_b^2 (r_b: mean confidence -
    correct in the bin), resolution sum_b w_b (y_b - y)^2, uncertainty y (1 - y). Noise makes the
    first two too large: by sum_b w_b s_b^2 / n_b (s^2: variance of the residual, of correct), and
    resolution and uncertainty too small by sum_b w_b^2 s_b^2 / n_b, the variance of y. Taken off,
    all three are unbiased for the binned confidence; values may lie below 0. They add up to the
    Brier score exactly where a bin holds one confidence. Bins of one row are left out. Source:
    Murphy 1973 (J. Applied Meteorology 12); bias: Ferro & Fricker 2012 (Q. J. R. Meteorol. Soc.
    138).
    """
    # One row shows no variance, so such a bin has no bias that could be taken off.
    used = sums.num >= 2
    num = np.where(used, sums.num, 1.0)
    total = np.sum(np.where(used, num, 0), axis=-1, keepdims=True)
    weight = np.where(used, num / np.where(total > 0, total, np.nan), 0)

    def noise(total_B: Floats, square_B: Floats) -> Floats:
        """Variance of each bin's mean."""
        scatter_B = np.clip(square_B - total_B**2 / num, 0, None)
        variance_B = scatter_B / np.where(used, num - 1, 1)
        return np.asarray(variance_B / num, dtype=float)

    right = sums.correct / num
    mean = np.sum(weight * right, axis=-1, keepdims=True)
    spread = noise(sums.correct, sums.correct_square)
    of_mean = np.sum(weight**2 * spread, axis=-1)
    residual_square = (sums.residual / num) ** 2 - noise(sums.residual, sums.residual_square)
    reliability = np.sum(weight * residual_square, axis=-1)
    resolution = np.sum(weight * ((right - mean) ** 2 - spread), axis=-1) + of_mean
    known = total[..., 0] > 0
    parts = (reliability, resolution, (mean * (1 - mean))[..., 0] + of_mean)
    return Parts(*(np.where(known, part, np.nan) for part in parts))


def signed_root(square: float) -> float:
    """sign(x) sqrt(|x|): an error from its unbiased square, which noise can take below 0."""
    return float(np.sign(square) * np.sqrt(abs(square)))


def debiased_ece(
    confidence_N: Floats,
    correct_N: Floats,
    num_bins: int = 15,
) -> float:
    """L2 calibration error over equal-mass bins, without the noise that makes ECE positive.

    About 0 if calibrated: sum_b w_b [mean_b(r)^2 - var_b(r) / n_b], r = confidence - correct: the
    reliability of `decompose`, unbiased for the squared error of the binned confidence. Returned:
    sign(x) sqrt(|x|). Bins of one row are left out; NaN without any other. Source: Kumar, Liang &
    Ma 2019 (1909.10155), with the variance of the residual instead of that of the label; Roelofs
    2022 (2012.08668).
    """
    if len(confidence_N) == 0:
        return float("nan")
    bin_N = mass_bins(confidence_N, num_bins)
    sums = binned_sums(confidence_N, correct_N, bin_N, (num_bins,))
    return signed_root(float(decompose(sums).reliability))


def reliability_bins(
    confidence_N: Floats,
    correct_N: Floats,
    num_bins: int = 10,
    rows_per_unit: float = 1.0,
) -> list[dict[str, Any]]:
    """The points of a reliability diagram, equal-width bins, empty ones left out; JSON-able.

    Each: `low`, `high` (bin), `confidence`, `accuracy`, `count`, `accuracy_low`, `accuracy_high`
    (binomial interval at count units).

    Args:
        confidence_N: of each row.
        correct_N: of each row.
        num_bins: of equal width.
        rows_per_unit: rows that stand for one independent unit (splits of the same problem).
    """
    bin_N = np.clip((confidence_N * num_bins).astype(np.int64), 0, num_bins - 1)
    points = []
    for index in np.unique(bin_N):
        chosen = bin_N == index
        accuracy, units = float(correct_N[chosen].mean()), float(chosen.sum() / rows_per_unit)
        low, high = clopper_pearson(accuracy * units, units)
        points.append(
            {
                "low": float(index / num_bins),
                "high": float((index + 1) / num_bins),
                "confidence": float(confidence_N[chosen].mean()),
                "accuracy": accuracy,
                "count": units,
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return points
