"""Samples that were copied: a file that repeats every sample looks like more evidence than it is.

Knows nothing of decisions.
"""

from __future__ import annotations

import numpy as np

from ouroloop.monitors.base import Samples
from ouroloop.monitors.columns import codes, distinct

# A multiplicity is even by chance about every second time, so twenty of them are even together
# once in a million probe sets.
MIN_SURPRISES = 20
"""Multiplicities with a common factor that it takes before samples are called copies."""


def copies(samples: Samples, number: int) -> str:
    """A sentence when the samples of round `number` are copies of fewer ones, else "".

    Every distinct sample of every problem occurs a multiple of m >= 2 times. A problem with d
    distinct samples has d - 1 multiplicities that are free to be anything else; there must be
    `MIN_SURPRISES` of them in all, since a few samples of few kinds are even by chance. Or: each
    problem has but one sample, word for word, again and again. A model at temperature 0 gives the
    same, and is no independent sample either.
    """
    if not len(samples):
        return ""
    count_M, problem_M = _multiplicities(samples)
    num_problems = int(problem_M.max()) + 1
    # Copying k times makes every multiplicity a multiple of k.
    times = int(np.gcd.reduce(count_M))
    if times < 2:
        return ""
    if len(count_M) - num_problems >= MIN_SURPRISES:
        return (
            f"round {number}: every distinct sample occurs {times} times, or a multiple of that;"
            f" were the rows copied? Copies are no independent samples: {len(samples):,} rows are"
            f" worth {len(samples) // times:,}"
        )
    if len(count_M) == num_problems and all(samples.text):
        return (
            f"round {number}: all samples of each problem are the same, word for word; were the"
            " rows copied, or sampled at temperature 0? They are no independent samples:"
            f" {len(samples):,} rows are worth {num_problems:,}"
        )
    return ""


def _multiplicities(
    samples: Samples,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """(how often it occurs, problem) of every distinct sample; NaN equals NaN."""
    problem_N = codes(samples.problem)[1]
    texts = [codes(getattr(samples, name))[1] for name in ("strategy", "answer", "text")]
    numbers = [
        getattr(samples, name) for name in ("correct", "valid", "nll", "num_tokens", "truncated")
    ]
    sample_N = distinct([problem_N, *texts, *numbers])
    first_M = np.unique(sample_N, return_index=True)[1]
    return np.bincount(sample_N).astype(np.int64), problem_N[first_M]
