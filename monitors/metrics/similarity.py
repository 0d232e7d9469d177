"""Diversity of texts without strategy names (M14): an order-2 Vendi score of each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import Ints, Scores, by_problem
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.metrics.readings import Kind, by_family, missing, no_right, reading

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], ArrayLike]
"""Texts (N) -> one vector each, (N, D); their lengths are made 1 here."""
Pairs = tuple[Ints, Ints, Floats]
"""Rows i and j of one problem, i != j, and their cosine; pairs that are left out have 0."""
Cosines = Callable[[Sequence[str], Ints], Iterator[Pairs]]
"""Texts and their problems' numbers, ascending, (N,) -> the pairs, in any portions."""
NGRAM_BYTES = (2, 3, 4)
BEGIN, END = b"\xfe", b"\xff"
"""Neither byte occurs in UTF-8; with them even an empty text has an n-gram: no vector is zero."""
# Characters of texts whose n-grams are sorted together, unless one problem alone has more: what
# is sorted then lies in a processor's cache, and takes a few MiB however many texts there are.
CHUNK = 20_000
# Texts of a problem, and their characters, up to which a table of its n-grams by its texts is
# multiplied whole: a few MiB. Of more texts most of it would be zero.
FEW, LONG = 32, 200_000
# Texts whose pairs with all others of their problem are looked at together, where it has more.
BLOCK = 256
# Bits of a key for an n-gram: its size (3) and its bytes (32). Of the other 29 its text takes as
# many as its problem has texts for, and the problem's number within the chunk the rest.
GRAM_BITS = 35
KINDS: Mapping[Estimand, Kind] = {
    Estimand("similarity/effective_number_all"): ("texts", "none"),
    Estimand("similarity/effective_number_right"): ("texts", "up"),
}


class Counts(NamedTuple):
    """How often texts have n-grams; columns in order, one for each n-gram of each problem.

    Attributes:
        text_E: the text's place within its problem.
        column_E: the column.
        count_E: how often.
        problem_C: a column's problem, counted within the chunk.
    """

    text_E: Ints
    column_E: Ints
    count_E: Floats
    problem_C: Ints


def ngram_cosines(texts: Sequence[str], problem_N: Ints) -> Iterator[Pairs]:
    """Cosines of the counts of 2 to 4 bytes in a row, each text's begin and end included.

    Exact: an n-gram is its own code, so nothing is hashed and no two n-grams share a count.
    """
    for first, last, is_alone in _chunks(texts, problem_N):
        start_P = np.flatnonzero(_is_new(problem_N[first:last]))
        size_P = np.diff(start_P, append=last - first)
        counts = _counts(texts[first:last], size_P)
        if is_alone:
            yield from _of_many(counts, first, last)
        else:
            yield _of_few(counts, start_P + first, int(size_P.max()))


def _chunks(texts: Sequence[str], problem_N: Ints) -> Iterator[tuple[int, int, bool]]:
    """First row and end of every portion, of problems with about `CHUNK` characters or of one.

    True: of one with more than `FEW` texts or `LONG` characters.
    """
    # Two marks stand with each text: no portion has more texts than characters.
    length_N = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 2
    before_N = np.cumsum(length_N) - length_N
    starts = np.flatnonzero(_is_new(problem_N))
    num_texts_P = np.diff(starts, append=len(texts))
    is_alone_P = (num_texts_P > FEW) | (np.add.reduceat(length_N, starts) > LONG)
    # Problems that begin within the same `CHUNK` characters go together.
    begins_P = _is_new(before_N[starts] // CHUNK) | is_alone_P
    begins_P[1:] |= is_alone_P[:-1]
    firsts = starts[begins_P].tolist()
    ends = [*firsts[1:], len(texts)]
    yield from zip(firsts, ends, is_alone_P[begins_P].tolist(), strict=True)


def _of_few(counts: Counts, first_P: Ints, most: int) -> Pairs:
    """The pairs of problems with at most `most` texts each; `first_P`: their first rows."""
    count_CK = np.zeros((len(counts.problem_C), most))
    count_CK[counts.column_E, counts.text_E] = counts.count_E
    bounds = np.searchsorted(counts.problem_C, np.arange(len(first_P) + 1)).tolist()
    dot_PKK = np.array([count_CK[a:b].T @ count_CK[a:b] for a, b in pairwise(bounds)])
    # A text's product with itself; 0 where a problem has fewer texts.
    length_PK = np.sqrt(dot_PKK.diagonal(axis1=1, axis2=2))
    length_PKK = length_PK[:, :, None] * length_PK[:, None, :]
    p, i, j = np.nonzero((length_PKK > 0) & ~np.eye(most, dtype=bool))
    return first_P[p] + i, first_P[p] + j, dot_PKK[p, i, j] / length_PKK[p, i, j]


def _of_many(counts: Counts, first: int, last: int) -> Iterator[Pairs]:
    """The pairs of one problem, whose texts are the rows `first` to `last`."""
    text_E, column_E, count_E, problem_C = counts
    bounds = np.searchsorted(column_E, np.arange(len(problem_C) + 1))
    shape = (last - first, len(problem_C))
    by_column = sparse.csc_array((count_E, text_E, bounds), shape=shape)
    by_text = by_column.tocsr()
    length_D = np.sqrt(np.bincount(text_E, weights=count_E**2, minlength=last - first))
    for top in range(0, last - first, BLOCK):
        dot = (by_text[top : top + BLOCK] @ by_column.T).tocoo()
        i, j = dot.row.astype(np.int64) + top, dot.col.astype(np.int64)
        is_pair = i != j
        i, j = i[is_pair], j[is_pair]
        yield i + first, j + first, dot.data[is_pair] / (length_D[i] * length_D[j])


def _counts(texts: Sequence[str], size_P: Ints) -> Counts:
    """The n-grams of one chunk, which has so many texts of each problem."""
    text_bits = int(size_P.max() - 1).bit_length()
    problem_D = np.repeat(np.arange(len(size_P)), size_P)
    place_D = np.arange(len(texts)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    tag_D = (problem_D << (GRAM_BITS + text_bits) | place_D).astype(np.uint64)
    marked = [BEGIN + text.encode("utf-8", "surrogatepass") + END for text in texts]
    byte_T = np.frombuffer(b"".join(marked), dtype=np.uint8).astype(np.uint64)
    tag_T = np.repeat(tag_D, [len(one) for one in marked])
    code_T, keys = byte_T, []
    for size in NGRAM_BYTES:
        code_T = (code_T[:-1] << np.uint64(8)) | byte_T[size - 1 :]
        first_T, last_T = tag_T[: len(code_T)], tag_T[size - 1 :]
        gram_T = (np.uint64(size << 32) | code_T) << np.uint64(text_bits)
        # An n-gram across two texts belongs to neither.
        keys.append((gram_T | first_T)[first_T == last_T])
    # Equal keys lie side by side once sorted, ordered by problem, n-gram and text.
    key_K = np.sort(np.concatenate(keys))
    start_E = np.flatnonzero(_is_new(key_K))
    count_E = np.diff(start_E, append=len(key_K)).astype(np.float64)
    key_E = key_K[start_E]
    is_new_E = _is_new(key_E >> np.uint64(text_bits))
    problem_C = key_E[is_new_E] >> np.uint64(GRAM_BITS + text_bits)
    text_E = (key_E & np.uint64((1 << text_bits) - 1)).astype(np.int64)
    return Counts(text_E, np.cumsum(is_new_E) - 1, count_E, problem_C.astype(np.int64))


def _is_new(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value is another than the one before it; the first is."""
    is_new = np.ones(len(values), dtype=bool)
    # Compared, not subtracted: `numpy.diff` takes three times as long.
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return is_new


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
    squared cosine, turned over. Measured (docs/validation/index.md, V2): it held the truth in 95 %
    of 400 probe sets of 120 problems x 8, and of 40 x 8.

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
            _reading(name, part, score, why)
            for name, part, score, why in zip(
                KINDS, parts, scores, ("", no_right(rows)), strict=True
            )
        ]


def _reading(
    name: Estimand,
    rows: Samples,
    scores: Scores,
    unknown: str,
) -> Reading:
    effective = partial(effective_number, scores)
    found = effective(rows)
    why = unknown or "no problem has two samples with a text"
    if np.isinf(found.value):
        why = "no two samples of any problem have anything in common"
    return reading(name, found, *KINDS[name], why, {"families": by_family(rows, effective)})


def mean_squared_cosines(rows: Samples, cosines: Cosines) -> tuple[Scores, Scores]:
    """Mean squared cosine of two samples of each problem: of all its samples, of its right ones."""
    problems, problem_N = codes(rows.problem)
    order_N = np.argsort(problem_N, kind="stable")
    problem_N, right_N = problem_N[order_N], (rows.correct == 1)[order_N]
    sum_P, right_P = np.zeros((2, len(problems)))
    for i, j, cosine in cosines(rows.text[order_N].tolist(), problem_N):
        square = cosine**2
        sum_P += np.bincount(problem_N[i], weights=square, minlength=len(problems))
        both = right_N[i] & right_N[j]
        right_P += np.bincount(problem_N[i[both]], weights=square[both], minlength=len(problems))
    num_P = np.bincount(problem_N, minlength=len(problems))
    num_right_P = np.bincount(problem_N[right_N], minlength=len(problems))
    return (
        by_problem(problems, _mean_of_pairs(sum_P, num_P)),
        by_problem(problems, _mean_of_pairs(right_P, num_right_P)),
    )


def _mean_of_pairs(sum_P: Floats, num_P: Ints) -> Floats:
    """Sums over the pairs of `num_P` samples as means; NaN for fewer than two samples."""
    pairs_P = (num_P * (num_P - 1)).astype(np.float64)
    mean_P: Floats = np.full(len(sum_P), np.nan)
    np.divide(sum_P, pairs_P, out=mean_P, where=pairs_P > 0)
    return mean_P


def embedded_cosines(embed: Embed, texts: Sequence[str]) -> Cosines:
    """Cosines by a user's embedding, which is called once, on all different texts."""
    # One call for all: embedding models are fast on batches, and collapsed texts repeat.
    distinct = sorted(set(texts))
    vector_DD = unit(embed(distinct))
    place = {text: i for i, text in enumerate(distinct)}

    def cosines(texts: Sequence[str], problem_N: Ints) -> Iterator[Pairs]:
        bounds = np.flatnonzero(np.diff(problem_N, prepend=-1, append=-1)).tolist()
        for first, last in pairwise(bounds):
            vector_KD = vector_DD[[place[text] for text in texts[first:last]]]
            i, j = np.nonzero(~np.eye(last - first, dtype=bool))
            yield i + first, j + first, (vector_KD @ vector_KD.T)[i, j]

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
