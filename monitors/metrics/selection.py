"""Selection ratios (M12): what the filter makes of every strategy's share.

It is known before anything is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from ouroloop.monitors.base import Floats, Objects, Pool, Reading, RoundView
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.multiplicity import benjamini_yekutieli
from ouroloop.monitors.estimators.scores import Bools, Ints
from ouroloop.monitors.estimators.stats import (
    NAN,
    UNDEFINED,
    Estimate,
    clopper_pearson,
    df_of_moments,
    effective_df,
)
from ouroloop.monitors.metrics.readings import Kind, missing, number, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("selection/largest_ratio", samples="pool"): ("ratio", "down"),
    Estimand("selection/fresh_share", samples="pool"): ("share", "down"),
    Estimand("selection/accuracy_gain", samples="pool"): ("share", "up"),
}
NAMES = tuple(KINDS)
# The cluster of samples without a strategy id; no canonicaliser gives a name in brackets.
NO_NAME = "(none)"


@dataclass(frozen=True)
class SelectionRatio:
    """One cluster of samples before and after the filter.

    Attributes:
        cluster: its name.
        ratio: share among the kept / share among the raw, [0, inf).
        low: lower end of its 95 % interval, clustered by problem.
        high: the upper end.
        all_low: the lower end for all clusters at once (Bonferroni).
        all_high: the upper end likewise.
        p_adjusted: Benjamini-Yekutieli over the clusters, two-sided, of "the filter does not care".
        num_raw: its raw samples.
        num_kept: those of them that were kept.
        raw_share: its share of all raw samples.
        right: share of its scored raw samples that are right (NaN if unknown).
    """

    cluster: str
    ratio: float
    low: float
    high: float
    all_low: float
    all_high: float
    p_adjusted: float
    num_raw: int
    num_kept: int
    raw_share: float
    right: float

    def to_json(self) -> dict[str, Any]:
        """All numbers; null where undefined."""
        out = {}
        for name, value in self.__dict__.items():
            if name != "cluster":
                out[name] = number(value) if isinstance(value, float) else value
        return out


@dataclass(frozen=True)
class Selection:
    """How the filter shifts the strategies' shares, before training.

    A strategy's share in the next round is about (1 - fresh) R times its share in this one.

    * selection/largest_ratio: the largest R = (share among kept) / (share among raw) of a strategy,
      [0, inf), down; the one with the highest lower limit. low, high: hold the true largest R with
      95 %, all strategies at once (the largest of many noisy R is biased up; its lower limit is
      not).
    * selection/fresh_share: max(0, 1 - 1/R) of it: with a larger share of fresh data in the next
      training set no strategy can take over, [0, 1), down. Its ends are those of R.
    * selection/accuracy_gain: share right among the kept less that among the raw, [-1, 1], up: what
      the verifier adds to the generator. Among scored samples; t interval, clustered; a verifier
      that knows the truth gives 1 - accuracy.

    details: `clusters` (see SelectionRatio), `selected` (p_adjusted <= 0.05). Samples without a
    strategy id are one cluster of their own; clusters with fewer than `min_raw` raw samples are
    ignored. Undefined without a pool, when nothing was kept, or when no cluster is large enough
    (the gain: when nothing was scored). Checked: with a filter that keeps at random (5 strategies,
    100 problems x 8) an interval of R held 1 in 95 % of 2,000 draws, all five in 94.5 %. With 300
    problems x 8, the simultaneous limit sees R = 2 of a strategy with 1 % of the samples in 96 % of
    draws, R = 1.35 of one with 3 % in 53 %. Source: verifier's gain: Song et al. 2412.02674;
    mutation-selection balance (Crow & Kimura 1970, chapter 6); Ding et al. 2411.00750 (filters feed
    some paths and starve others).
    """

    name: str = "selection"
    min_raw: int = 10
    most_listed: int = 40

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.pool`."""
        pool = view.pool
        if pool is None:
            return missing(KINDS, "no training pool")
        if not pool.kept.any():
            return missing(KINDS, "the filter kept nothing of the training pool")
        found = selection_ratios(pool, self.min_raw)
        # The one that is surely large, not the one that looks largest: small clusters have wild
        # ratios.
        largest = largest_ratio(found)
        gain = reading(
            NAMES[2],
            accuracy_gain(pool),
            "share",
            "up",
            "no kept sample was scored (no gold answers)",
        )
        if largest is None:
            why = "one problem: no interval"
            if not found:
                why = f"no strategy has {self.min_raw} samples in the raw pool"
            return [*missing({name: KINDS[name] for name in NAMES[:2]}, why), gain]
        first, low, high = largest
        listed = sorted(found, key=lambda r: (-r.ratio, r.cluster))[: self.most_listed]
        details = {
            "cluster": first.cluster,
            "clusters": {r.cluster: r.to_json() for r in listed},
            "selected": [r.cluster for r in listed if r.p_adjusted <= 0.05],
        }
        num = len(set(pool.problem))
        ends = Estimate(first.ratio, low, high, num)
        # Monotone in R, so the ends of R's interval are carried over.
        fresh = Estimate(
            fresh_share(first.ratio),
            fresh_share(low),
            fresh_share(high),
            num,
        )
        return [
            reading(NAMES[0], ends, "ratio", "down", "", details),
            reading(NAMES[1], fresh, "share", "down", "", {"cluster": first.cluster}),
            gain,
        ]


def fresh_share(ratio: float) -> float:
    """max(0, 1 - 1/R): with more fresh data a cluster with this selection ratio cannot grow."""
    return max(0.0, 1 - 1 / ratio) if ratio > 0 else 0.0


def accuracy_gain(pool: Pool) -> Estimate:
    """Share right among the kept less share right among the raw, of the scored samples."""
    known = np.isfinite(pool.correct)
    problem_N = codes(pool.problem[known])[1]
    right, kept = pool.correct[known], pool.kept[known].astype(float)
    if not kept.any():
        return UNDEFINED
    after, before = float(np.mean(right[kept == 1])), float(right.mean())
    # The kept are part of the raw: the difference's variance is that of the difference of the two
    # linearised means, problem by problem, not the sum of their variances.
    influence_N = kept * (right - after) / kept.sum() - (right - before) / len(right)
    influence_P: Floats = np.bincount(problem_N, weights=influence_N).astype(float)
    num, value = len(influence_P), after - before
    if num < 2:
        return Estimate(value, NAN, NAN, num)
    se = float(np.sqrt(num / (num - 1) * np.sum(influence_P**2)))
    half = float(stdtrit(effective_df(influence_P), 0.975)) * se
    return Estimate(value, value - half, value + half, num)


def largest_ratio(found: Sequence[SelectionRatio]) -> tuple[SelectionRatio, float, float] | None:
    """The cluster with the highest simultaneous lower limit, with that limit and the highest upper.

    None without any.
    """
    known = [r for r in found if np.isfinite(r.all_low + r.all_high)]
    if not known:
        return None
    first = max(known, key=lambda r: (r.all_low, r.ratio, r.cluster))
    return first, first.all_low, max(r.all_high for r in known)


def selection_ratios(pool: Pool, min_raw: int = 10) -> list[SelectionRatio]:
    """Every strategy's selection ratio, in the order of their names; see `ratios_of`.

    Empty when nothing was kept.
    """
    names = np.array([s if isinstance(s, str) else NO_NAME for s in pool.strategy], dtype=object)
    return ratios_of(names, pool.problem, pool.kept, pool.correct, min_raw)


def ratios_of(
    cluster: Objects,
    problem: Objects,
    kept: Bools,
    correct: Floats,
    min_raw: int = 10,
) -> list[SelectionRatio]:
    """Share among the kept over share among all, for every cluster with at least `min_raw` rows.

    Interval: t, on the scale of log R, from the residuals per problem (k_is/K_s - k_i/K) -
    (n_is/N_s - n_i/N), with k kept and n raw counts of problem i and capitals their sums: samples
    of one problem are never taken as independent. Where nothing was kept, R = 0 and the upper limit
    is the exact binomial one for as many draws as there are problems. Source: log risk ratio (Katz
    et al. 1978), its linearised, clustered variance (Binder 1983).
    """
    # Sorted by name, so the order of the rows does not matter.
    names, cluster_N = codes(cluster)
    if not kept.any():
        return []
    fit_of = _fits(cluster_N, codes(problem)[1], kept, min_raw)
    # Bonferroni: so that all the intervals hold at once, whichever cluster is looked at.
    all_level = 1 - 0.05 / max(len(fit_of), 1)
    right_S = _right(cluster_N, correct, len(names))
    adjusted = benjamini_yekutieli([fit.p_value() for fit in fit_of.values()])
    return [
        SelectionRatio(
            names[s],
            fit.ratio,
            *fit.interval(0.95),
            *fit.interval(all_level),
            float(p),
            int((cluster_N == s).sum()),
            int(kept[cluster_N == s].sum()),
            fit.share,
            right_S[s],
        )
        for (s, fit), p in zip(fit_of.items(), adjusted, strict=True)
    ]


def _fits(
    cluster_N: Ints,
    problem_N: Ints,
    kept: Bools,
    min_raw: int,
) -> dict[int, _Fit]:
    """Log R of every cluster with at least `min_raw` rows."""
    width, num = int(cluster_N.max()) + 1, int(problem_N.max()) + 1
    # A cell is a problem and a cluster, so the moments cost as much as there are cells.
    cells, cell_N = np.unique(problem_N * width + cluster_N, return_inverse=True)
    raw_M, kept_M = np.bincount(cell_N).astype(float), np.bincount(cell_N, weights=kept)
    problem_M, cluster_M = cells // width, cells % width
    raw_S, kept_S = np.bincount(cluster_M, weights=raw_M), np.bincount(cluster_M, weights=kept_M)
    kept_P = np.bincount(problem_M, weights=kept_M) / kept_M.sum()
    raw_P = np.bincount(problem_M, weights=raw_M) / raw_M.sum()
    base_P = kept_P - raw_P
    some_S = np.where(kept_S > 0, kept_S, 1)
    own_M = kept_M / some_S[cluster_M] - raw_M / raw_S[cluster_M]
    # The residual of R is its own less the base's: both are shares of kept less shares of raw.
    here_M = base_P[problem_M]

    def moment(power: int) -> Floats:
        """Sum over problems of the residuals to a power, for each cluster."""
        # Where a problem has no sample of the cluster, its residual is that of the base alone.
        more_M = (own_M - here_M) ** power - here_M**power
        inside_S = np.bincount(cluster_M, weights=more_M, minlength=width)
        return np.asarray(np.sum(base_P**power) + inside_S, dtype=float)

    square_S, fourth_S = moment(2), moment(4)
    fits = {}
    for s in np.flatnonzero(raw_S >= min_raw).tolist():
        share = float(raw_S[s] / raw_M.sum())
        ratio = float(kept_S[s] / kept_M.sum()) / share
        fits[s] = _Fit(
            ratio,
            share,
            num,
            max(float(square_S[s]), 0.0),
            float(fourth_S[s]),
        )
    return fits


@dataclass(frozen=True)
class _Fit:
    """log R of one cluster.

    Attributes:
        ratio: R.
        share: of the raw samples.
        num: problems.
        square: sum of the residuals' squares.
        fourth: sum of their fourth powers.
    """

    ratio: float
    share: float
    num: int
    square: float
    fourth: float

    @property
    def _error(self) -> tuple[float, float]:
        """Standard error of log R and its degrees of freedom."""
        square, fourth = 0.0, 0.0
        # Less is what rounding leaves of residuals that are all 0.
        if self.square > 1e-24:
            square, fourth = self.square, self.fourth / self.square**2
        se = float(np.sqrt(self.num / (self.num - 1) * square))
        return se, df_of_moments(self.num, fourth)

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends for R; NaN for a single problem."""
        if self.num < 2:
            return NAN, NAN
        if self.ratio == 0:
            # log 0 has no error: the exact limit, a problem counting as one draw.
            return 0.0, clopper_pearson(0, self.num, level)[1] / self.share
        se, df = self._error
        factor = float(np.exp(stdtrit(df, (1 + level) / 2) * se))
        return self.ratio / factor, self.ratio * factor

    def p_value(self) -> float:
        """Two-sided, of R = 1; NaN for a single problem."""
        if self.num < 2:
            return NAN
        if self.ratio == 0:
            return min(1.0, 2 * (1 - self.share) ** self.num)
        se, df = self._error
        distance = abs(float(np.log(self.ratio)))
        if se == 0:
            return float(distance < 1e-12)
        return float(2 * stdtr(df, -distance / se))


def _right(
    cluster_N: Ints,
    correct: Floats,
    width: int,
) -> list[float]:
    """Share right among each cluster's scored rows; NaN without any."""
    known = np.isfinite(correct)
    num_S = np.bincount(cluster_N[known], minlength=width)
    right_S = np.bincount(cluster_N[known], weights=correct[known], minlength=width)
    return [float(r / n) if n else NAN for r, n in zip(right_S, num_S, strict=True)]
