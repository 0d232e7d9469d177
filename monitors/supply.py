"""Supply: does the round's own data still feed the next training?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from monitors.base import Pool, Reading, RoundView
from monitors.readings import missing, reading
from monitors.scores import codes
from monitors.stats import Estimate, binomial, mean, share

NAMES = ("supply/yield", "supply/unsolved", "supply/kept_per_problem")


@dataclass(frozen=True)
class Supply:
    """What the filter left of the raw training pool. All unbiased.

    * supply/yield: kept / sampled, [0, 1], up; clustered by problem. details: `rejections` (first reason -> count), `sampled`,
      `kept`. When nothing passes, `reason` says so in a sentence.
    * supply/unsolved: share of problems without a kept sample, [0, 1], down; exact binomial interval.
    * supply/kept_per_problem: mean number of kept samples, [0, samples per problem], up; t interval.

    Undefined without a pool (round 0).
    Source: Amin et al. 2502.08924 and Ding et al. 2411.00750 (starved and unevenly fed problems drive the decline).
    """

    name: str = "supply"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.pool`."""
        pool = view.pool
        if pool is None or not len(pool.kept):
            why = "round 0 has no training pool" if view.round == 0 else "no sample was drawn for training this round"
            return missing(NAMES, "", "up", why)
        problem_N = codes(pool.problem)[1]
        total_P = np.bincount(problem_N)
        kept_P = np.bincount(problem_N, weights=pool.kept)
        note = nothing_passes(pool) or ""
        details = {"rejections": rejections(pool), "sampled": len(pool.kept), "kept": int(pool.kept.sum())}
        return [
            reading(NAMES[0], share(kept_P, total_P), "share", "up", "", details, note),
            reading(NAMES[1], binomial(int((kept_P == 0).sum()), len(kept_P)), "share", "down", ""),
            reading(NAMES[2], mean(kept_P), "samples", "up", ""),
        ]


def kept_share(pool: Pool, level: float = 0.95) -> Estimate:
    """Kept / sampled, clustered by problem, with a two-sided interval of this level."""
    problem_N = codes(pool.problem)[1]
    return share(np.bincount(problem_N, weights=pool.kept), np.bincount(problem_N), level=level)


def rejections(pool: Pool) -> dict[str, int]:
    """First reason -> number of rejected samples, most frequent first."""
    counts = Counter(str(reason) or "no reason given" for reason, kept in zip(pool.reason, pool.kept, strict=True) if not kept)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def nothing_passes(pool: Pool) -> str | None:
    """The plain sentence when the filter kept nothing; None when it kept something."""
    if pool.kept.any():
        return None
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejections(pool).items())
    return f"nothing passes: 0 of {len(pool.kept):,} samples kept" + (f"; reasons: {reasons}" if reasons else "")
