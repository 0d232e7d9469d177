"""Diversity of texts without strategy names (M14).

Order-2 Vendi score on embeddings of the samples of each problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.estimators.scores import codes
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.metrics.readings import Kind, by_family, missing, reading

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], ArrayLike]
"""Texts (N) -> one vector each, (N, D); lengths are made 1 here."""
NUM_FEATURES = 1024
PRIME = np.uint64(1_099_511_628_211)
"""FNV-1's: multiplied modulo 2^64."""
KINDS: Mapping[str, Kind] = {
    "similarity/effective_number_all": ("texts", "none"),
    "similarity/effective_number_right": ("texts", "up"),
}


def character_ngrams(texts: Sequence[str]) -> Floats:
    """Counts of 2 to 4 bytes in a row, hashed to `NUM_FEATURES` numbers.

    The same vector for the same text in every round, without a model.
    """
    out = np.zeros((len(texts), NUM_FEATURES))
    for row, text in zip(out, texts, strict=True):
        byte_T = np.frombuffer(text.encode(errors="replace"), dtype=np.uint8).astype(np.uint64)
        for size in (2, 3, 4):
            num = max(len(byte_T) - size + 1, 0)
            hashed_T = np.full(num, size, dtype=np.uint64)
            for i in range(size):
                hashed_T = hashed_T * PRIME + byte_T[i : i + num]
            row += np.bincount((hashed_T >> np.uint64(16)) % NUM_FEATURES, minlength=NUM_FEATURES)
    return out


@dataclass(frozen=True)
class Similarity:
    """How many different texts a problem's samples come to, [1, inf).

    * similarity/effective_number_all: 1 / mean over problems of the mean squared cosine of two of
      its samples (each counted once, never a text with itself): the order-2 Vendi score, also
      called RKE, as a U-statistic. Exactly unbiased before the reciprocal. With one-hot vectors it
      is the inverse Simpson index. Neither way healthy: it falls as a model gets better.
    * similarity/effective_number_right: of right samples alone; problems with at least two.

    For traces that nobody can name the strategies of. Surface and strategy are not the same: where
    strategies can be named, `diversity` is the better monitor. Order 2 because order 1 does not
    converge below some 20,000 samples (Ospanov & Farnia 2410.21719). Interval: that of the mean
    squared cosine, turned over. Measured (MONITORS.md, V2): it held the truth in 96 % of 400 panels
    of 120 problems x 8, in 94 to 96 % of 40 x 8.

    embed: any embedding, for instance a sentence-transformers model's `encode`. The default
    compares characters.
    """

    name: str = "similarity"
    embed: Embed = character_ngrams

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        rows = view.probe.where(codes(view.probe.text)[1] >= 0)
        if not len(rows):
            return missing(KINDS, "no panel sample has a text")
        different = sorted(set(map(str, rows.text)))
        effective = partial(
            effective_number, dict(zip(different, unit(self.embed(different)), strict=True))
        )
        why = "no problem has two samples with a text"
        return [
            reading(
                name, effective(part), *KINDS[name], why, {"families": by_family(part, effective)}
            )
            for name, part in zip(KINDS, (rows, rows.where(rows.correct == 1)), strict=True)
        ]


def effective_number(vectors: Mapping[str, Floats], rows: Samples) -> Estimate:
    """1 / mean over problems of the mean squared cosine of two of these rows.

    `vectors` of length 1 by text.
    """
    if not len(rows):
        return UNDEFINED
    vector_ND = np.array([vectors[str(text)] for text in rows.text])
    problem_N = codes(rows.problem)[1]
    alike = mean_in_unit(
        [squared_cosine(vector_ND[problem_N == p]) for p in range(problem_N.max() + 1)]
    )
    value, low, high = (
        1 / x if x > 0 else float("nan") for x in (alike.value, alike.high, alike.low)
    )
    return Estimate(value, low, high, alike.num_clusters)


def unit(vectors: ArrayLike) -> Floats:
    """Rows of length 1, (N, D); a row of zeros stays."""
    rows = np.asarray(vectors, dtype=float)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def squared_cosine(vector_ND: Floats) -> float:
    """Mean over pairs i != j of (x_i . x_j)^2 for rows of length 1; NaN for fewer than two."""
    num = len(vector_ND)
    if num < 2:
        return float("nan")
    square = (vector_ND @ vector_ND.T) ** 2
    return float((square.sum() - np.trace(square)) / (num * (num - 1)))
