"""Strategy coverage: which of round 0's strategies are still alive, and how the shares moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.halves import SECOND_HALF
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean_in_unit, ratio, share
from ouroloop.monitors.metrics.diversity import NO_STRATEGIES
from ouroloop.monitors.metrics.rare import held_out_rare_mass, rare_mass
from ouroloop.monitors.metrics.readings import (
    Kind,
    as_json,
    at,
    equal_sizes,
    families,
    missing,
    of,
    reading,
)

KINDS: Mapping[Estimand, Kind] = {
    Estimand("coverage/kept"): ("share", "up"),
    Estimand("coverage/alive"): ("strategies", "up"),
    Estimand("coverage/rare_retention"): ("ratio", "up"),
    Estimand("coverage/rare_mass", samples=SECOND_HALF): ("probability", "up"),
}
KEPT, ALIVE, RARE, MASS = KINDS
NONE_RIGHT = "no right probe sample has a strategy id"
COUNTED = {estimand: KINDS[estimand] for estimand in (KEPT, ALIVE)}
"""Those that depend on the number of samples: near the threshold chance decides."""


@dataclass(frozen=True)
class Coverage:
    """Strategies alive on the probe set.

    * coverage/alive@n: number of strategies with at least `alive_share` of the right samples, [0, 1
      / alive_share], up.
    * coverage/kept@n: share of round 0's alive strategies that still are, [0, 1], up; 1 in round 0
      by definition. Bias: near the threshold chance decides, so an unchanged model reads a little
      below 1 when round 0 has strategies near it.
    * coverage/rare_retention: right mass of round 0's rare strategies, now over then (M5), [0,
      inf), up; split-half, so that an unchanged model reads 1.00 (to order 1 / problems).
      Delta-method interval.
    * coverage/rare_mass: P(right by a strategy that was rare at round 0), [0, 1], up; what the
      decision rule guards. Rare is what the first half of round 0's samples shows; the mass is that
      of round 0's second half, or of all samples of a later round.

    The first two depend on the number of samples, which their names give: `num_samples` of each
    problem are read, or as many as the smaller of the two probes has. The others take all samples:
    their expectation depends on the reference's alone, which stays.

    low and high of the first two count the strategies whose own 95 % share interval (clustered)
    lies above, or reaches, the threshold: not simultaneous. details of alive: `shares_all`,
    `shares_correct`, `accuracy` per strategy, pooled and under `families`. Undefined without
    strategy ids; retention also in round 0 and when nothing was right and rare then. Measured
    (MONITORS.md, V2): the interval of rare_retention held the truth in 95 % of 400 probe sets of
    120 problems x 8, in 92 % of 40 x 8. Source: rejection-sampling gains scale with distinct right
    paths (Yuan et al. 2308.01825); tails go first (2305.17493).
    """

    name: str = "coverage"
    alive_share: float = 0.01
    rare_share: float = 0.10
    most_listed: int = 40
    num_samples: int = 8

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` against `reference.probe`."""
        size, probe, before = equal_sizes(view, reference, self.num_samples)
        return [
            *self._counts(at(COUNTED, size), probe, probe if before is None else before),
            self._retention(view, reference),
            self._mass(view, reference),
        ]

    def _counts(
        self,
        kinds: Mapping[Estimand, Kind],
        probe: Samples,
        before: Samples,
    ) -> list[Reading]:
        """What is alive, of equally many samples per problem in both rounds."""
        kept_name, alive_name = kinds
        then = pooled_shares(_right(before), self._most)
        started = sorted(s for s, e in then.items() if e.value >= self.alive_share)
        now = pooled_shares(_right(probe), self._most, started)
        if not now:
            named = bool(scores.codes(probe.strategy)[0])
            return missing(kinds, NONE_RIGHT if named else NO_STRATEGIES)
        kept, num = UNDEFINED, len(started)
        if started:
            value, low, high, clusters = self._alive(now[s] for s in started)
            kept = Estimate(value / num, low / num, high / num, clusters)
        about = {
            "started": started,
            "lost": [s for s in started if now[s].value < self.alive_share],
        }
        parts = {f: self._shares(of(probe, "family", f)) for f in families(probe)}
        details = {**self._shares(probe), "families": parts}
        return [
            reading(kept_name, kept, "share", "up", "no strategy was alive at round 0", about),
            reading(alive_name, self._alive(now.values()), "strategies", "up", "", details),
        ]

    @property
    def _most(self) -> int:
        """No more strategies than this can be alive."""
        return ceil(1 / self.alive_share)

    def _alive(self, shares: Iterable[Estimate]) -> Estimate:
        chosen = list(shares)
        value, low, high = (float(sum(e[i] >= self.alive_share for e in chosen)) for i in range(3))
        return Estimate(value, low, high, max((e.num_clusters for e in chosen), default=0))

    def _retention(self, view: RoundView, reference: RoundView | None) -> Reading:
        if reference is None:
            return missing({RARE: KINDS[RARE]}, "round 0 is the reference")[0]
        mass = rare_mass(view.probe, reference.probe, self.rare_share)
        value, low, high, num = ratio(list(mass.current.values()), list(mass.reference.values()))
        rare = {
            family: dict(list(shares.items())[: self.most_listed])
            for family, shares in mass.rare.items()
        }
        found = Estimate(value, max(low, 0.0), high, num)
        return reading(RARE, found, "ratio", "up", self._none_rare, {"rare": rare})

    def _mass(self, view: RoundView, reference: RoundView | None) -> Reading:
        """What the decision rule guards; at round 0 from the half that did not pick."""
        then = (reference or view).probe
        now, before = held_out_rare_mass(view.probe, then, self.rare_share)
        there = any(value > 0 for value in before.values())
        score = list((before if reference is None else now).values()) if there else []
        found = mean_in_unit(score, float(len(scores.scored(view.probe))))
        return reading(MASS, found, "probability", "up", self._none_rare)

    @property
    def _none_rare(self) -> str:
        share = f"{self.rare_share:.0%}"
        return f"no strategy was right and rare (in at most {share} of the samples) at round 0"

    def _shares(self, rows: Samples) -> dict[str, Any]:
        """Shares among all and among right samples and accuracy per strategy.

        The `most_listed` most frequent ones.
        """
        listed = pooled_shares(rows, self.most_listed)
        right = pooled_shares(_right(rows), 0, listed)
        return {
            "shares_all": _json(listed),
            "shares_correct": _json({s: right[s] for s in listed if s in right}),
            "accuracy": _json(strategy_accuracy(rows, listed)),
        }


def pooled_shares(rows: Samples, most: int, also: Iterable[str] = ()) -> dict[str, Estimate]:
    """Share of each strategy among the samples with a strategy id, clustered.

    The `most` frequent ones and those in `also`.

    A strategy in `also` that no sample has gets share 0 with its upper limit. Empty when no sample
    has a strategy id.
    """
    rows = rows.where(scores.codes(rows.strategy)[1] >= 0)
    if not len(rows):
        return {}
    labels, strategy_N = scores.codes(rows.strategy)
    problem_N = scores.codes(rows.problem)[1]
    total_P = np.bincount(problem_N)
    count_S = np.bincount(strategy_N)
    frequent = [labels[i] for i in np.argsort(-count_S, kind="stable")[:most]]
    index = {label: i for i, label in enumerate(labels)}
    order = np.argsort(strategy_N, kind="stable")
    start_S = np.cumsum(count_S) - count_S
    out = {}
    for label in dict.fromkeys([*frequent, *also]):
        i = index.get(label, -1)
        mine = problem_N[order[start_S[i] : start_S[i] + count_S[i]]] if i >= 0 else problem_N[:0]
        out[label] = share(np.bincount(mine, minlength=len(total_P)), total_P)
    return out


def strategy_accuracy(rows: Samples, strategies: Iterable[str]) -> dict[str, Estimate]:
    """Share of each strategy's scored samples that are right, clustered by problem."""
    rows, out = scores.scored(rows), {}
    labels, strategy_N = scores.codes(rows.strategy)
    index = {label: i for i, label in enumerate(labels)}
    for label in strategies:
        mine = rows.where(strategy_N == index.get(label, -2))
        problem_N = scores.codes(mine.problem)[1]
        out[label] = share(np.bincount(problem_N, weights=mine.correct), np.bincount(problem_N))
    return out


def _right(rows: Samples) -> Samples:
    return rows.where(rows.correct == 1)


def _json(shares: Mapping[str, Estimate]) -> dict[str, Any]:
    return {strategy: as_json(estimate) for strategy, estimate in shares.items()}
