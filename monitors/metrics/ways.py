"""In how many ways a problem is solved: diversity within problems, in a number that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import Estimate, mean_in_unit
from ouroloop.monitors.estimators.ustatistics import pass_at_k
from ouroloop.monitors.metrics.diversity import NO_STRATEGIES
from ouroloop.monitors.metrics.readings import (
    NOT_SCORED,
    Kind,
    at,
    equal_sizes,
    main_family_of,
    missing,
    of,
    reading,
)

SEVERAL, MEAN = Estimand("ways/several"), Estimand("ways/mean")
KINDS: Mapping[Estimand, Kind] = {SEVERAL: ("share", "up"), MEAN: ("strategies", "up")}
TOO_FEW = "one sample per problem: two samples of a problem are needed to show two ways"
Ints = NDArray[np.int64]
# Problems with more ways than this are counted together: a picture of four shades can be read.
MOST = 3


@dataclass(frozen=True)
class Ways:
    """Ways per problem on the probe set: the distinct strategies among its right samples.

    * ways/several@n: share of the scored problems that are solved in two ways or more, [0, 1], up.
      Of the families with strategies, and of the one that the loop trains.
    * ways/mean@n: expected number of ways among n samples of a problem, [0, n], up; of all that
      there are, as pass@k is (1 - C(m - c, n) / C(m, n) for each strategy with c of m samples), so
      that it is unbiased. A guarded quantity: a sharpening moves it sooner than any other.

    n is `num_samples`, or as many as the smaller of the two probes has, since more samples find
    more ways; for the first, so many of each problem are read. Strategies that are alive on the
    whole say nothing about a loss within problems: four can stay alive while each problem keeps
    one.

    details: `shares`, the shares of problems solved in 0, 1, 2, and 3 or more ways. Undefined
    without strategy ids, and where each problem has one sample, which takes one way at most.
    Source: distinct right paths per problem (Yuan et al. 2308.01825); rarefaction (Hurlbert 1971).
    """

    name: str = "ways"
    num_samples: int = 8
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; `reference` fixes the number of samples."""
        main = main_family_of(self.main_family, view, reference)
        size, some, _ = equal_sizes(view, reference, self.num_samples)
        several, mean = at(KINDS, size)
        out = []
        for estimand, probe in ((several, some), (mean, view.probe)):
            named = scores.families_with_strategies(probe)
            rows = probe.where(is_among(probe.family, named))
            parts = {estimand: rows}
            if main:
                parts[replace(estimand, family=main)] = of(rows, "family", main)
            out += [_reading(each, part, size) for each, part in parts.items()]
        return out


def _reading(estimand: Estimand, samples: Samples, size: int) -> Reading:
    is_mean = estimand.statistic.startswith(MEAN.statistic)
    kind = KINDS[MEAN if is_mean else SEVERAL]
    rows = scores.scored(samples)
    if why := _why_undefined(samples, rows, size):
        return missing({estimand: kind}, why)[0]
    if is_mean:
        why = f"no problem has {size} scored samples"
        return reading(estimand, mean_ways(rows, size), *kind, why)
    ways_P = ways(rows)
    counts = np.bincount(np.minimum(ways_P, MOST), minlength=MOST + 1)
    details = {"shares": (counts / len(ways_P)).tolist()}
    found = mean_in_unit((ways_P >= 2).astype(float), len(rows))
    return reading(estimand, found, *kind, "", details)


def _why_undefined(samples: Samples, rows: Samples, size: int) -> str:
    if size < 2:
        return TOO_FEW
    if codes(samples.strategy)[0] and not len(rows):
        return NOT_SCORED
    return "" if codes(rows.strategy)[0] else NO_STRATEGIES


def mean_ways(rows: Samples, size: int) -> Estimate:
    """Mean over problems of the distinct strategies expected among the right of `size` samples.

    Problems with fewer samples are left out.
    """
    problem_M, count_M, num_P = _cells(rows)
    # The chance to see a strategy is that of a right sample in pass@k.
    seen_M = pass_at_k(count_M, num_P[problem_M], size)
    ways_P = np.bincount(problem_M, weights=seen_M, minlength=len(num_P))
    found = mean_in_unit(ways_P[num_P >= size] / size, len(rows))
    return Estimate(size * found.value, size * found.low, size * found.high, found.num_clusters)


def ways(rows: Samples) -> Ints:
    """Distinct strategies among the right samples of each problem, (P,).

    A right sample without a strategy id is a way, too: all of a problem's are one.
    """
    problem_M, _, num_P = _cells(rows)
    return np.bincount(problem_M, minlength=len(num_P)).astype(np.int64)


def _cells(rows: Samples) -> tuple[Ints, Floats, Floats]:
    """Problem and right samples of every problem's strategies, (M,), and all samples, (P,)."""
    problems, problem_N = codes(rows.problem)
    is_right_N = rows.correct == 1
    labels, strategy_N = codes(rows.strategy)
    width = len(labels) + 1
    cells = (problem_N * width + strategy_N + 1)[is_right_N]
    found, count_M = np.unique(cells, return_counts=True)
    num_P = np.bincount(problem_N, minlength=len(problems))
    return found // width, count_M.astype(float), num_P.astype(float)
