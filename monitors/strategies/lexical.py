"""Texts as vectors without a model: tf-idf over words and characters, reduced by an SVD.

Every word, pair of words and run of four characters has a 64-bit hash of its own. Different bits
of it choose the bucket in which the documents with this gram are counted, the bucket of the
vector, and the sign there, so that collisions cancel on average.

Sources: Weinberger et al. 2009, arXiv 0902.2206 (signed hashing); Deerwester et al. 1990 (latent
semantic analysis: words that occur together become one direction, so that "cannot help" and
"unable to assist" are near each other where the baseline says both).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ouroloop.monitors.strategies.clusters import Matrix
from ouroloop.monitors.strategies.packing import as_kept, packed, unpacked

Hashes = NDArray[np.uint64]
Grams = tuple[tuple[Hashes, NDArray[np.int64]], ...]
"""Different hashes and their counts; of words, then of characters."""

MAX_CHARS = 20_000
"""Far above any honest text: it bounds what a hostile one costs."""
NUM_CHARS = 4
BUCKETS = 4_096
# More than the vector has: a common and a rare gram in one bucket would share their weight.
COUNTED = 65_536
MAX_DIMENSIONS = 64

_WORD = re.compile(r"\w+")
# Odd constants of splitmix64 (Steele et al. 2014): every input bit reaches every output bit.
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
_SIGN = np.uint64(1 << 63)


@dataclass
class Lexical:
    """Built-in encoder: fitted once on the baseline's texts, then frozen.

    Attributes:
        name: in messages and in the frozen file.
        counts_: learned, (COUNTED,): fitted texts that have a gram of this bucket.
        num_texts_: learned: texts behind the counts.
        axes_: learned, (BUCKETS, D): the first D right singular vectors of the fitted texts.
    """

    name: str = "lexical"
    counts_: NDArray[np.float64] = field(default_factory=lambda: np.zeros(COUNTED))
    num_texts_: int = 0
    axes_: Matrix = field(default_factory=lambda: np.zeros((BUCKETS, 0)))

    def fit(self, texts: Sequence[str]) -> Lexical:
        """Learn how common each gram is, and the directions in which the texts differ most."""
        # Here and not above: importing scikit-learn takes a second, and few runs cluster texts.
        from sklearn.utils.extmath import randomized_svd

        read = [grams(text) for text in texts]
        self.num_texts_ = len(read)
        self.counts_ = np.zeros(COUNTED)
        for parts in read:
            for unique, _ in parts:
                self.counts_[np.unique(_counted(unique))] += 1
        weighted = self._weighted(read)
        num = min(MAX_DIMENSIONS, len(read))
        _, _, axes = randomized_svd(weighted, num, n_iter=4, random_state=0)
        self.axes_ = as_kept(axes.T)
        return self

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """(N,) texts to (N, D) vectors of length one, or of zeros for a text without any gram."""
        vectors = np.asarray(self._weighted([grams(text) for text in texts]) @ self.axes_)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Matrix = vectors / np.where(lengths > 0, lengths, 1.0)
        return unit

    def _weighted(self, read: Sequence[Grams]) -> Any:
        """(N, BUCKETS), sparse: each part of a text (words, characters) at length one."""
        idf = np.log((1 + self.num_texts_) / (1 + self.counts_)) + 1
        # An empty part first, so that there is one to concatenate without any text.
        columns, values, ends = [np.zeros(0, dtype=np.int64)], [np.zeros(0)], [0]
        for parts in read:
            end = ends[-1]
            for unique, counts in parts:
                # Damped counts: a word said ten times is not ten times as telling.
                weights = (1 + np.log(counts)) * idf[_counted(unique)]
                weights /= np.linalg.norm(weights)
                is_negative = unique >= _SIGN
                values.append(np.where(is_negative, -weights, weights))
                columns.append(_bucket(unique))
                end += len(unique)
            ends.append(end)
        flat = (np.concatenate(values), np.concatenate(columns), ends)
        matrix = csr_array(flat, shape=(len(read), BUCKETS))
        # Two grams of one text in one bucket: their values are added, or cancel.
        matrix.sum_duplicates()
        return matrix

    def state(self) -> dict[str, Any]:
        """What was learned, JSON-able."""
        return {
            "num_texts": self.num_texts_,
            "counts": packed(self.counts_),
            "dimensions": self.axes_.shape[1],
            "axes": packed(self.axes_),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Lexical:
        """What `state` gave.

        Raises:
            ValueError: the numbers have another shape.
        """
        counts = unpacked(state["counts"], (COUNTED,))
        axes = unpacked(state["axes"], (BUCKETS, int(state["dimensions"])))
        return cls(counts_=counts, num_texts_=int(state["num_texts"]), axes_=axes)


def grams(text: str) -> Grams:
    """Hashes with their counts: of words and pairs of words, and of runs of four characters."""
    plain = " ".join(text[:MAX_CHARS].lower().split())
    found = (_word_hashes(plain), _run_hashes(plain))
    return tuple(np.unique(each, return_counts=True) for each in found if len(each))


def _word_hashes(plain: str) -> Hashes:
    words = [_hash_of(word) for word in _WORD.findall(plain)]
    single = np.array(words, dtype=np.uint64)
    # Not symmetric: "not good" and "good not" are two pairs.
    pairs = _mixed(single[:-1] * _STEP + single[1:])
    return np.concatenate([single, pairs])


def _run_hashes(plain: str) -> Hashes:
    # Code points and not bytes: a letter of any script counts as one.
    encoded = plain.encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(encoded, dtype=np.uint32).astype(np.uint64)
    num = len(points) - NUM_CHARS + 1
    if num < 1:
        return np.zeros(0, dtype=np.uint64)
    runs = np.zeros(num, dtype=np.uint64)
    for offset in range(NUM_CHARS):
        runs = runs * _STEP + points[offset : offset + num]
    return _mixed(runs)


def _hash_of(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(hashes: Hashes) -> Hashes:
    """The finaliser of splitmix64. Without it, near texts of four characters share low bits."""
    mixed = hashes ^ (hashes >> np.uint64(30))
    mixed = mixed * _MIX[0]
    mixed = mixed ^ (mixed >> np.uint64(27))
    mixed = mixed * _MIX[1]
    out: Hashes = mixed ^ (mixed >> np.uint64(31))
    return out


def _bucket(hashes: Hashes) -> NDArray[np.int64]:
    return (hashes % np.uint64(BUCKETS)).astype(np.int64)


def _counted(hashes: Hashes) -> NDArray[np.int64]:
    """Bits 20 to 35: others than those of the vector's bucket (0 to 11) and of the sign (63)."""
    return ((hashes >> np.uint64(20)) % np.uint64(COUNTED)).astype(np.int64)
