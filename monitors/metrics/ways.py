"""In how many ways a problem is solved: diversity within problems, in a number that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import mean_in_unit
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

KINDS: Mapping[Estimand, Kind] = {Estimand("ways/several"): ("share", "up")}
TOO_FEW = "one sample per problem: two samples of a problem are needed to show two ways"
# Problems with more ways than this are counted together: a picture of four shades can be read.
MOST = 3


@dataclass(frozen=True)
class Ways:
    """Ways per problem on the probe set: the distinct strategies among its right samples.

    * ways/several@n: share of the scored problems that are solved in two ways or more, [0, 1], up.
      Of the families with strategies, and of the one that the loop trains.

    `num_samples` of each problem are read, or as many as the smaller of the two probes has, since
    more samples find more ways. Strategies that are alive on the whole say nothing about a loss
    within problems: four can stay alive while each problem keeps one.

    details: `shares`, the shares of problems solved in 0, 1, 2, and 3 or more ways. Undefined
    without strategy ids, and where each problem has one sample, which takes one way at most.
    Source: distinct right paths per problem (Yuan et al. 2308.01825).
    """

    name: str = "ways"
    num_samples: int = 8
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; `reference` fixes the number of samples."""
        main = main_family_of(self.main_family, view, reference)
        size, probe, _ = equal_sizes(view, reference, self.num_samples)
        ((estimand, kind),) = at(KINDS, size).items()
        named = scores.families_with_strategies(probe)
        rows = probe.where(is_among(probe.family, named))
        parts = {estimand: rows}
        if main:
            parts[replace(estimand, family=main)] = of(rows, "family", main)
        if size < 2:
            return missing(dict.fromkeys(parts, kind), TOO_FEW)
        return [_reading(each, kind, part) for each, part in parts.items()]


def _reading(estimand: Estimand, kind: Kind, samples: Samples) -> Reading:
    rows = scores.scored(samples)
    if codes(samples.strategy)[0] and not len(rows):
        return missing({estimand: kind}, NOT_SCORED)[0]
    if not codes(rows.strategy)[0]:
        return missing({estimand: kind}, NO_STRATEGIES)[0]
    ways_P = ways(rows)
    counts = np.bincount(np.minimum(ways_P, MOST), minlength=MOST + 1)
    details = {"shares": (counts / len(ways_P)).tolist()}
    found = mean_in_unit((ways_P >= 2).astype(float), len(rows))
    return reading(estimand, found, *kind, "", details)


def ways(rows: Samples) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Distinct strategies among the right samples of each problem, (P,).

    A right sample without a strategy id is a way, too: all of a problem's are one.
    """
    problems, problem_N = codes(rows.problem)
    is_right_N = rows.correct == 1
    labels, strategy_N = codes(rows.strategy)
    # The problems of the distinct (problem, strategy) pairs: each as often as it has ways.
    width = len(labels) + 1
    found = np.unique((problem_N * width + strategy_N + 1)[is_right_N]) // width
    return np.bincount(found, minlength=len(problems)).astype(np.int64)
