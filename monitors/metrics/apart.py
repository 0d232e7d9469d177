"""How unlike a problem's answers are by response clusters, whoever scores them, by family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.estimators.ustatistics import distinct_pair_share, same_pairs
from ouroloop.monitors.metrics.readings import Kind, families, of, reading

APART = Estimand("clusters/apart")
KINDS: Mapping[Estimand, Kind] = {APART: ("probability", "up")}
WHY = "no response clusters, or one sample of each problem"


@dataclass(frozen=True)
class Apart:
    """Pairs of a problem's samples in different response clusters, on the probe set.

    * clusters/apart: P(two samples of a problem lie in different response clusters), [0, 1], up.
      Of all families together and of each: where a constitution rewrites one family, the others
      are to stay as unlike as they were. Samples without a cluster are a cluster together.

    A U-statistic, unbiased for any number of samples from two on; problems are the clusters of the
    interval. The guarded quantity of the same name is about the problems that nobody scored, all
    families together. Undefined without response clusters. Source: Simpson 1949.
    """

    name: str = "apart"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; families that were clustered at round 0 take part."""
        kind, probe = KINDS[APART], view.probe
        out = [reading(APART, apart(probe), *kind, WHY)]
        known = {f for side in (view, reference or view) for f in _clustered(side.probe)}
        for family in sorted(known):
            found = apart(of(probe, "family", family))
            out.append(reading(replace(APART, family=family), found, *kind, WHY))
        return out


def _clustered(samples: Samples) -> list[str]:
    return families(samples.where(codes(samples.cluster)[1] >= 0))


def apart(samples: Samples) -> Estimate:
    """Mean over problems of the share of pairs in different clusters."""
    cluster_N = codes(samples.cluster)[1]
    # A round without one cluster was not clustered: nothing can be said of it.
    if not (cluster_N >= 0).any():
        return UNDEFINED
    problems, problem_N = codes(samples.problem)
    num_P = np.bincount(problem_N, minlength=len(problems)).astype(float)
    same_P = same_pairs(problem_N, cluster_N, len(problems))
    return mean_in_unit(distinct_pair_share(num_P, num_P, same_P), len(samples))
