"""Revisions that revise nothing (M19): the critique once more, or the text as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Pool, Reading, RoundView
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import Bools
from ouroloop.monitors.estimators.stats import Estimate, share
from ouroloop.monitors.metrics.readings import Kind, missing, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("revision/copied_critique", samples="pool"): ("share", "down"),
    Estimand("revision/unchanged", samples="pool"): ("share", "none"),
}
COPIED, UNCHANGED = KINDS
COPY = 0.5
"""From this likeness to its critique on a revision counts as a copy of it."""
NUM_CHARS = 4


@dataclass(frozen=True)
class Revisions:
    """What became of the texts that were revised. Unbiased, clustered by problem.

    * revision/copied_critique: share of them whose `likeness` to the critique that they answer is
      at least `copy`, [0, 1], down. A model too weak to revise says again what stands before the
      request, and learns to review where it should answer.
    * revision/unchanged: share of them that are the text before them, likeness 1, [0, 1]; neither
      way healthy: an answer without a fault should stay.

    Undefined without a pool, or where nothing was revised (direct revision has no critique to
    copy). Measured on SmolLM2-135M, the published principles and worked dialogues in turns of a
    chat, 29 revisions of round 1: of those at 0.5 and above, all that were read repeated their
    critique; between 0.3 and 0.5 most did, in other words (LOG.md, 2026-11-30). The five published
    worked dialogues lie at 0.06 to 0.23. Measured (docs/validation/index.md, V2): the intervals
    held the truth in 95 to 98 % of 400 probe sets of 120 problems x 8, and of 40 x 8. Source:
    Broder 1997 (resemblance of sets of shingles).
    """

    name: str = "revision"
    copy: float = COPY

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.pool`."""
        pool = view.pool
        if pool is None or pool.like_critique is None or pool.like_draft is None:
            return missing(KINDS, "no text was revised for training this round")
        answered = np.isfinite(pool.like_critique)
        revised = np.isfinite(pool.like_draft)
        copied = _share(pool, pool.like_critique >= self.copy, answered)
        unchanged = _share(pool, pool.like_draft == 1.0, revised)
        none = "no text was revised"
        return [
            reading(COPIED, copied, "share", "down", f"{none} after a critique"),
            reading(UNCHANGED, unchanged, "share", "none", none),
        ]


def _share(pool: Pool, hit: Bools, among: Bools) -> Estimate:
    """Share of the rows `among` that are hit."""
    problem_N = codes(pool.problem[among])[1]
    return share(np.bincount(problem_N, weights=hit[among]), np.bincount(problem_N))


def likeness(one: str, other: str) -> float:
    """How alike two texts are, [0, 1]: the Jaccard index of their runs of four characters.

    Case and white space do not count. A text that is a part of the other is as like it as it is
    long beside it: quoting a sentence of a long critique is no copy.
    """
    here, there = _runs(one), _runs(other)
    return len(here & there) / len(here | there)


def _runs(text: str) -> set[str]:
    plain = " ".join(text.casefold().split())
    # A text shorter than a run is one.
    return {plain[i : i + NUM_CHARS] for i in range(max(1, len(plain) - NUM_CHARS + 1))}
