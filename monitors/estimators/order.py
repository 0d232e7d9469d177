"""The order of a problem's samples, which must not depend on how a file was written.

Knows nothing of monitors.

Samples of one problem are exchangeable, so whatever order they are put in must be independent of
what they are. Two simpler ways fail:

* the file's own order: rows that a filter sorted ("rejected first") put all losses into one half;
* one fixed permutation, after sorting by content: two problems with the same number of right
  samples would have them in the same places, in every round, and a persistent error would add up
  over rounds.

So the rows are sorted by content and then permuted by a generator that is seeded with a digest of
the content of the whole probe set. Sorting makes the result the same for every order of the same
rows; equal rows are interchangeable. The digest behaves as a random function: given the multiset of
samples each order is as likely as any other, which is what independent samples have too, and
another round has another multiset and so a fresh permutation. A baseline, whose samples stay,
keeps its order.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SEED = b"ouroloop-order-1"
"""Part of every digest; a change of it changes all orders."""


def permuted(problem_N: Ints, *content_N: NDArray[np.generic]) -> Ints:
    """Indices of the rows, problem by problem, each problem's rows in a random order.

    Args:
        problem_N: each row's problem, as a number.
        content_N: what the rows hold, as numbers (NaN allowed), one array per field. Only the order
            and the ties of the values count, so codes into any sorted list of labels will do.

    Returns:
        A permutation of `range(N)`, ascending in the problem: for the same rows in another order it
        gives rows of the same content in the same places.
    """
    ranks = [_ranks(values) for values in (problem_N, *content_N)]
    # lexsort takes its last key first: problem by problem, then by content.
    canonical_N = np.lexsort(ranks[::-1])
    # Not Python's hash, which differs between processes.
    digest = hashlib.sha256(SEED)
    for rank_N in ranks:
        digest.update(rank_N[canonical_N].tobytes())
    rng = np.random.default_rng(int.from_bytes(digest.digest(), "big"))
    shuffled_N = np.lexsort((rng.random(len(canonical_N)), ranks[0][canonical_N]))
    return np.asarray(canonical_N[shuffled_N], dtype=np.int64)


def _ranks(values_N: NDArray[np.generic]) -> Ints:
    """Dense ranks, so that labels which no row has change nothing."""
    ranks_N: Ints = np.unique(values_N, return_inverse=True)[1].astype(np.int64).ravel()
    return ranks_N
