"""How far claimed confidence lies from truth: pure functions. confidence_N in [0, 1], correct_N in {0, 1} (or a share)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from scipy.optimize import brentq

from monitors.stats import clopper_pearson

Floats = NDArray[np.float64]


def brier(confidence_N: Floats, correct_N: Floats, num_N: Floats) -> Floats:
    """Brier score per row, (confidence - correct)^2, less the noise of a share of `num` votes. NaN for num < 2.

    E[(c_hat - y)^2] = (c - y)^2 + c (1 - c) / num, and c_hat (1 - c_hat) / (num - 1) estimates the last term without bias.
    num = infinity: an exact confidence, no correction. Single rows can be below 0; the mean is unbiased, range [0, 1].
    """
    noise_N = confidence_N * (1 - confidence_N) / np.where(num_N >= 2, num_N - 1, 1)
    return np.where(num_N >= 2, (confidence_N - correct_N) ** 2 - noise_N, np.nan)


def smooth_ece(confidence_N: Floats, correct_N: Floats, num_cells: int = 2048) -> float:
    """Smooth expected calibration error, in [0, 1]; 0 is calibrated. NaN without rows. Biased up by noise (0.05 at 200 rows).

    The residual (correct - confidence) / N, placed at its confidence, is smoothed by a Gaussian kernel reflected at 0 and 1; the
    error is the integral of its size, at the bandwidth sigma that equals the error itself. Reflection makes the kernel diagonal
    in the cosine basis, so it costs O(N + cells log cells); cells limit the resolution to 1 / num_cells.
    Source: Blasiok & Nakkiran 2023 (2309.12236) (smooth ECE with a reflected Gaussian kernel, bandwidth at the fixed point).
    """
    if len(confidence_N) == 0:
        return float("nan")
    cell_N = np.clip((confidence_N * num_cells).astype(np.int64), 0, num_cells - 1)
    residual = np.bincount(cell_N, weights=(correct_N - confidence_N) / len(confidence_N), minlength=num_cells)
    spectrum = dct(residual, type=2)
    frequency = np.pi * np.arange(num_cells)

    def error(sigma: float) -> float:
        return float(np.abs(idct(spectrum * np.exp(-0.5 * (sigma * frequency) ** 2), type=2)).sum())

    least = 1.0 / num_cells
    if error(least) <= least:
        return error(least)
    if error(1.0) >= 1.0:
        return 1.0
    return float(brentq(lambda sigma: error(sigma) - sigma, least, 1.0, xtol=1e-6))


def debiased_ece(confidence_N: Floats, correct_N: Floats, num_bins: int = 15) -> float:
    """L2 calibration error over equal-mass bins, without the noise that makes ECE positive; about 0 if calibrated.

    sum_b w_b [mean_b(r)^2 - var_b(r) / n_b], r = confidence - correct: unbiased for the squared error of the binned confidence.
    Returned: sign(x) sqrt(|x|). Equal confidences share a bin. Bins of one row are left out; NaN without any other.
    Source: Kumar, Liang & Ma 2019 (1909.10155), with the variance of the residual instead of that of the label; Roelofs 2022
    (2012.08668).
    """
    if len(confidence_N) == 0:
        return float("nan")
    edges = np.unique(np.quantile(confidence_N, np.linspace(0, 1, num_bins + 1))[1:-1])
    bin_N = np.digitize(confidence_N, edges)
    residual_N = confidence_N - correct_N
    num_B = np.bincount(bin_N)
    used_B = num_B >= 2
    if not used_B.any():
        return float("nan")
    mean_B = np.bincount(bin_N, weights=residual_N) / np.maximum(num_B, 1)
    square_B = np.bincount(bin_N, weights=(residual_N - mean_B[bin_N]) ** 2)
    noise_B = square_B / np.maximum(num_B - 1, 1) / np.maximum(num_B, 1)
    squared = float(np.sum((num_B * (mean_B**2 - noise_B))[used_B]) / num_B[used_B].sum())
    return float(np.sign(squared) * np.sqrt(abs(squared)))


def reliability_bins(
    confidence_N: Floats, correct_N: Floats, num_bins: int = 10, rows_per_unit: float = 1.0,
) -> list[dict[str, Any]]:
    """The points of a reliability diagram, equal-width bins, empty ones left out; JSON-able.

    Each: `low`, `high` (bin), `confidence`, `accuracy`, `count`, `accuracy_low`, `accuracy_high` (binomial interval at count
    units). rows_per_unit: rows that stand for one independent unit (several splits of the same problem).
    """
    bin_N = np.clip((confidence_N * num_bins).astype(np.int64), 0, num_bins - 1)
    points = []
    for index in np.unique(bin_N):
        chosen = bin_N == index
        accuracy, units = float(correct_N[chosen].mean()), float(chosen.sum() / rows_per_unit)
        low, high = clopper_pearson(accuracy * units, units)
        points.append({
            "low": float(index / num_bins), "high": float((index + 1) / num_bins),
            "confidence": float(confidence_N[chosen].mean()), "accuracy": accuracy, "count": units,
            "accuracy_low": low, "accuracy_high": high,
        })
    return points
