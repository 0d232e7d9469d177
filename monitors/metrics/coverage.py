"""Strategy coverage: which of round 0's strategies are still alive, and how the shares moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import SECOND_HALF, Estimand
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
"""Those that depend on the number of samples: sampling noise decides near the threshold."""


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
    (docs/validation/index.md, V2): the interval of rare_retention held the truth in 95 % of 400
    probe sets of 120 problems x 8, in 92 % of 40 x 8. Source: rejection-sampling gains scale with
    distinct right paths (Yuan et al. 2308.01825); tails go first (2305.17493).
    """

    name: str = "coverage"
    alive_share: float = 0.01
    rare_share: float = 0.10
    most_listed: int = 40
    num_samples: int = 8

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` against `reference.probe`."""
        size, probe, before = equal_sizes(view, reference, self.num_samples)
        # Round 0 is its own reference: everything that is alive is kept.
        then = probe if before is None else before
        return [
            *self._counts(at(COUNTED, size), probe, then),
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
        # Among right samples only: a strategy that always fails is no loss.
        then = pooled_shares(_right(before), self._most)
        started = sorted(s for s, e in then.items() if e.value >= self.alive_share)
        now = pooled_shares(_right(probe), self._most, started)
        if not now:
            if codes(probe.strategy)[0]:
                return missing(kinds, NONE_RIGHT)
            return missing(kinds, NO_STRATEGIES)
        kept, num = UNDEFINED, len(started)
        if started:
            value, low, high, clusters = self._alive(now[s] for s in started)
            kept = Estimate(
                value / num,
                low / num,
                high / num,
                clusters,
            )
        lost = [s for s in started if now[s].value < self.alive_share]
        about = {"started": started, "lost": lost}
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
        """How many shares reach the threshold: their values, their lower and their upper limits."""
        chosen = list(shares)
        value, low, high = (float(sum(e[i] >= self.alive_share for e in chosen)) for i in range(3))
        num = max((e.num_clusters for e in chosen), default=0)
        return Estimate(value, low, high, num)

    def _retention(self, view: RoundView, reference: RoundView | None) -> Reading:
        """Right mass of round 0's rare strategies, now over then."""
        if reference is None:
            return missing({RARE: KINDS[RARE]}, "round 0 is the reference")[0]
        mass = rare_mass(view.probe, reference.probe, self.rare_share)
        now, before = list(mass.current.values()), list(mass.reference.values())
        value, low, high, num = ratio(now, before)
        rare = {}
        for family, shares in mass.rare.items():
            rare[family] = dict(list(shares.items())[: self.most_listed])
        # The delta method knows no range: its lower end may lie below 0.
        found = Estimate(
            value,
            max(low, 0.0),
            high,
            num,
        )
        return reading(
            RARE,
            found,
            "ratio",
            "up",
            self._none_rare,
            {"rare": rare},
        )

    def _mass(self, view: RoundView, reference: RoundView | None) -> Reading:
        """What the decision rule guards; at round 0 from the half that did not pick."""
        then = (reference or view).probe
        now, before = held_out_rare_mass(view.probe, then, self.rare_share)
        # Without any mass at round 0 nothing can be lost: undefined, as for the guarded quantity.
        score: list[float] = []
        if any(value > 0 for value in before.values()):
            score = list(before.values() if reference is None else now.values())
        found = mean_in_unit(score, float(len(scores.scored(view.probe))))
        return reading(
            MASS,
            found,
            "probability",
            "up",
            self._none_rare,
        )

    @property
    def _none_rare(self) -> str:
        share = f"{self.rare_share:.0%}"
        return f"no strategy was right and rare (in at most {share} of the samples) at round 0"

    def _shares(self, rows: Samples) -> dict[str, Any]:
        """Shares among all and among right samples, and accuracy, of the commonest strategies."""
        listed = pooled_shares(rows, self.most_listed)
        right = pooled_shares(_right(rows), 0, listed)
        return {
            "shares_all": _json(listed),
            "shares_correct": _json({s: right[s] for s in listed if s in right}),
            "accuracy": _json(strategy_accuracy(rows, listed)),
        }


def pooled_shares(
    rows: Samples,
    most: int,
    also: Iterable[str] = (),
) -> dict[str, Estimate]:
    """Share of each strategy among the samples with a strategy id, clustered.

    Args:
        rows: the samples.
        most: so many of the most frequent strategies are listed.
        also: listed too, even where no sample has them: share 0 with its upper limit.

    Returns:
        Strategy -> share. Empty when no sample has a strategy id.
    """
    rows = rows.where(codes(rows.strategy)[1] >= 0)
    if not len(rows):
        return {}
    labels, strategy_N = codes(rows.strategy)
    problem_N = codes(rows.problem)[1]
    total_P = np.bincount(problem_N)
    count_S = np.bincount(strategy_N)
    frequent = [labels[i] for i in np.argsort(-count_S, kind="stable")[:most]]
    index = {label: i for i, label in enumerate(labels)}
    # Sorted once by strategy, each one's rows are a slice: a mask per strategy would be quadratic.
    order = np.argsort(strategy_N, kind="stable")
    start_S = np.cumsum(count_S) - count_S
    out = {}
    for label in dict.fromkeys([*frequent, *also]):
        mine_N = order[:0]
        if label in index:
            start = start_S[index[label]]
            mine_N = order[start : start + count_S[index[label]]]
        hits_P = np.bincount(problem_N[mine_N], minlength=len(total_P))
        out[label] = share(hits_P, total_P)
    return out


def strategy_accuracy(rows: Samples, strategies: Iterable[str]) -> dict[str, Estimate]:
    """Share of each strategy's scored samples that are right, clustered by problem."""
    rows, out = scores.scored(rows), {}
    labels, strategy_N = codes(rows.strategy)
    index = {label: i for i, label in enumerate(labels)}
    for label in strategies:
        # -2: no row's code, -1 being that of rows without a strategy.
        mine = rows.where(strategy_N == index.get(label, -2))
        problem_N = codes(mine.problem)[1]
        right_P = np.bincount(problem_N, weights=mine.correct)
        out[label] = share(right_P, np.bincount(problem_N))
    return out


def _right(rows: Samples) -> Samples:
    return rows.where(rows.correct == 1)


def _json(shares: Mapping[str, Estimate]) -> dict[str, Any]:
    return {strategy: as_json(estimate) for strategy, estimate in shares.items()}
