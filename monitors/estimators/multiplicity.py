"""Many tests at once: p-values adjusted for their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def benjamini_yekutieli(p_S: ArrayLike) -> Floats:
    """Adjusted p-values; NaN counts as 1.

    Rejecting those <= q keeps the false discovery rate <= q under any dependence.
    Adjusted: min over larger ranks j of p_(j) S (1 + 1/2 + ... + 1/S) / j, cut at 1.
    Source: Benjamini & Yekutieli 2001 (Annals of Statistics 29).
    """
    p = np.nan_to_num(np.asarray(p_S, dtype=float), nan=1.0)
    num = len(p)
    rank = np.arange(1, num + 1)
    order = np.argsort(p, kind="stable")
    # The harmonic sum is the price of arbitrary dependence (Benjamini-Hochberg does without).
    scaled = p[order] * num * np.sum(1 / rank) / rank
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    out = np.empty(num)
    out[order] = np.minimum(adjusted, 1.0)
    return out
