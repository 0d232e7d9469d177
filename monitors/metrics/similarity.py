"""Diversity of texts without strategy names (M14): an order-2 Vendi score of each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import Ints, Scores, codes
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.metrics.readings import Kind, by_family, missing, reading

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], ArrayLike]
"""Texts (N) -> one vector each, (N, D); their lengths are made 1 here."""
Cosines = Callable[[Sequence[str]], Floats]
"""Texts of one problem (K) -> the cosine of every two of them, (K, K)."""
NGRAM_BYTES = (2, 3, 4)
BEGIN, END = b"\xfe", b"\xff"
"""Neither byte occurs in UTF-8; with them even an empty text has an n-gram: no vector is zero."""
# N-grams that are counted side by side: 128 KiB a text, however long the texts are.
CHUNK = 16_384
# 64 bits of a key: an n-gram's size (3 bits), its bytes (32), and what is left for the text's
# number within its problem.
TEXT_BITS = 28
KINDS: Mapping[Estimand, Kind] = {
    Estimand("similarity/effective_number_all"): ("texts", "none"),
    Estimand("similarity/effective_number_right"): ("texts", "up"),
}


def ngram_cosines(texts: Sequence[str]) -> Floats:
    """Cosines of the counts of 2 to 4 bytes in a row, (K, K), each text's begin and end included.

    Exact: an n-gram is its own code, so nothing is hashed and no two n-grams share a count.
    """
    # Equal texts are counted once: a collapsed model repeats itself.
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    dot_DD = _dot_products(list(number))
    length_D = np.sqrt(dot_DD.diagonal())
    text_K = np.array([number[text] for text in texts], dtype=np.int64)
    return np.asarray((dot_DD / np.outer(length_D, length_D))[np.ix_(text_K, text_K)])


def _dot_products(texts: Sequence[str]) -> Floats:
    """Dot products of the texts' counts of n-grams, (D, D)."""
    marked = [BEGIN + text.encode("utf-8", "surrogatepass") + END for text in texts]
    byte_T = np.frombuffer(b"".join(marked), dtype=np.uint8).astype(np.uint64)
    text_T = np.repeat(np.arange(len(texts), dtype=np.uint64), [len(one) for one in marked])
    code_T, keys = byte_T, []
    for size in NGRAM_BYTES:
        code_T = (code_T[:-1] << np.uint64(8)) | byte_T[size - 1 :]
        first_T, last_T = text_T[: len(code_T)], text_T[size - 1 :]
        tagged_T = np.uint64(size << 32) | code_T
        within_T = first_T == last_T  # an n-gram across two texts belongs to neither
        keys.append(((tagged_T << np.uint64(TEXT_BITS)) | first_T)[within_T])
    # Equal keys lie side by side once sorted, ordered by n-gram and then by text.
    key_E, count_E = np.unique(np.concatenate(keys), return_counts=True)
    text_E = (key_E & np.uint64((1 << TEXT_BITS) - 1)).astype(np.int64)
    gram_E = key_E >> np.uint64(TEXT_BITS)
    column_E = np.concatenate([[0], np.cumsum(gram_E[1:] != gram_E[:-1])])
    num_columns = int(column_E[-1]) + 1
    dot_DD = np.zeros((len(texts), len(texts)))
    for first in range(0, num_columns, CHUNK):
        here = slice(*np.searchsorted(column_E, (first, first + CHUNK)))
        count_DG = np.zeros((len(texts), min(CHUNK, num_columns - first)))
        count_DG[text_E[here], column_E[here] - first] = count_E[here]
        dot_DD += count_DG @ count_DG.T
    return dot_DD


@dataclass(frozen=True)
class Similarity:
    """How many different texts a problem's samples amount to, [1, inf).

    * similarity/effective_number_all: 1 / mean over problems of the mean squared cosine of two of
      its samples (each counted once, never a text with itself): the order-2 Vendi score, also
      called RKE, as a U-statistic. Exactly unbiased before the reciprocal. With one-hot vectors it
      is the inverse Simpson index. Neither way healthy: it falls as a model gets better.
    * similarity/effective_number_right: of right samples alone; problems with at least two.

    It estimates the number of the model's texts, not of the samples at hand: it may exceed the
    number of samples. Undefined when no problem has two samples, or when no two samples of any
    problem have anything in common.

    For traces that nobody can name the strategies of. Surface and strategy are not the same: where
    strategies can be named, `diversity` is the better monitor. Order 2 because order 1 does not
    converge below some 20,000 samples (Ospanov & Farnia 2410.21719). Interval: that of the mean
    squared cosine, turned over. Measured (MONITORS.md, V2): it held the truth in 95 % of 400 probe
    sets of 120 problems x 8, and of 40 x 8.

    Attributes:
        name: what its readings begin with.
        embed: any embedding, for instance a sentence-transformers model's `encode`. By default
            texts are compared by their n-grams of bytes (`ngram_cosines`), without a model.
    """

    name: str = "similarity"
    embed: Embed | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        rows = view.probe.where(codes(view.probe.text)[1] >= 0)
        if not len(rows):
            return missing(KINDS, "no probe sample has a text")
        cosines: Cosines = ngram_cosines
        if self.embed is not None:
            cosines = embedded_cosines(self.embed, rows.text.tolist())
        scores = mean_squared_cosines(rows, cosines)
        parts = (rows, rows.where(rows.correct == 1))
        return [
            _reading(name, part, score)
            for name, part, score in zip(KINDS, parts, scores, strict=True)
        ]


def _reading(
    name: Estimand,
    rows: Samples,
    scores: Scores,
) -> Reading:
    effective = partial(effective_number, scores)
    found = effective(rows)
    why = "no problem has two samples with a text"
    if np.isinf(found.value):
        why = "no two samples of any problem have anything in common"
    return reading(name, found, *KINDS[name], why, {"families": by_family(rows, effective)})


def mean_squared_cosines(rows: Samples, cosines: Cosines) -> tuple[Scores, Scores]:
    """Mean squared cosine of two samples of each problem: of all its samples, of its right ones."""
    every: Scores = {}
    right: Scores = {}
    for problem, row_K in _by_problem(rows):
        square_KK = cosines(rows.text[row_K].tolist()) ** 2
        right_K = rows.correct[row_K] == 1
        every[problem] = mean_of_pairs(square_KK)
        right[problem] = mean_of_pairs(square_KK[np.ix_(right_K, right_K)])
    return every, right


def _by_problem(rows: Samples) -> Iterator[tuple[str, Ints]]:
    """Every problem with the places of its rows."""
    problems, problem_N = codes(rows.problem)
    order_N = np.argsort(problem_N, kind="stable")
    ends = np.cumsum(np.bincount(problem_N))
    yield from zip(problems, np.split(order_N, ends[:-1]), strict=True)


def embedded_cosines(embed: Embed, texts: Sequence[str]) -> Cosines:
    """Cosines by a user's embedding, which is called once, on all different texts."""
    # One call for all: embedding models are fast on batches, and collapsed texts repeat.
    distinct = sorted(set(texts))
    vector_of = dict(zip(distinct, unit(embed(distinct)), strict=True))

    def cosines(some: Sequence[str]) -> Floats:
        vector_KD = np.array([vector_of[text] for text in some])
        return np.asarray(vector_KD @ vector_KD.T)

    return cosines


def effective_number(scores: Scores, rows: Samples) -> Estimate:
    """1 / mean over the problems of these rows of their mean squared cosine; infinite at 0."""
    alike = mean_in_unit([scores[problem] for problem in codes(rows.problem)[0]])
    if not alike.num_clusters:
        return UNDEFINED
    if alike.value == 0:
        return Estimate(
            float("inf"),
            float("nan"),
            float("nan"),
            alike.num_clusters,
        )
    # The ends change places in the reciprocal; one at 0 has none.
    low, high = (1 / x if x > 0 else float("nan") for x in (alike.high, alike.low))
    return Estimate(
        1 / alike.value,
        low,
        high,
        alike.num_clusters,
    )


def unit(vectors: ArrayLike) -> Floats:
    """Rows of length 1, (N, D); a row of zeros stays."""
    rows = np.asarray(vectors, dtype=float)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def mean_of_pairs(square_KK: Floats) -> float:
    """Mean of the entries off the diagonal; NaN for fewer than two rows."""
    num = len(square_KK)
    if num < 2:
        return float("nan")
    return float((square_KK.sum() - np.trace(square_KK)) / (num * (num - 1)))
