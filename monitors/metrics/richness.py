"""Strategy richness (M6): how many strategies there are, compared at equal coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, distinct
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.rarefaction import (
    Compared,
    Counted,
    at_equal_coverage,
    chao1,
    counted,
    coverage,
)
from ouroloop.monitors.estimators.stats import Estimate, cut, jackknife, jackknife_groups
from ouroloop.monitors.metrics.diversity import NO_STRATEGIES
from ouroloop.monitors.metrics.readings import Kind, at, equal_sizes, missing, number, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("richness/sample_coverage"): ("share", "none"),
    Estimand("richness/lower_bound"): ("strategies", "up"),
    Estimand("richness/at_equal_coverage"): ("strategies", "up"),
    Estimand("richness/retained"): ("ratio", "up"),
}


@dataclass(frozen=True)
class Richness:
    """Different right strategies on the probe set, counted per family and slice.

    Kinds are (family, slice, strategy).

    * richness/sample_coverage@n: share of the right mass that belongs to kinds seen (Chao-Jost),
      [0, 1]; nearly unbiased. Neither way healthy: 1 means only that nothing was missed.
    * richness/lower_bound@n: Chao1, kinds seen and at least unseen, [seen, inf), up; a bound, noisy
      (sd 23 for 64 samples of a Zipf-50).
    * richness/at_equal_coverage@n: kinds expected at the lesser of round 0's and this round's
      coverage (the other rarefied to it), [1, inf), up. A raw count would grow with the samples,
      and fall when fewer are right.
    * richness/retained@n: the same over round 0's, [0, inf), up; 1: as rich as then. On two samples
      of 60 and 240 of one Zipf-50 it reads 1.00 +- 0.03 in the mean where the raw count reads below
      0.65.

    All depend on the number of samples (what is seen, and the coverage at which rounds are
    compared), so their names give it: `num_samples` of each problem, or as many as the smaller of
    the two probes has.

    Intervals: delete-a-group jackknife over problems (the same ones left out of both rounds), cut
    to the range; too wide rather than too narrow: that of `retained` held the truth in 150 of 150
    draws (60 problems x 4 samples, Zipf-50), and with 120 x 8 lay below 1 in 100 of 100 draws when
    only the 30 most frequent of the 50 were left. details: `seen`, `samples`, `coverage`,
    `reference`, `sizes`, `doubled` (both extrapolated, at the lesser coverage at twice their sizes,
    as R's iNEXT compares them), and `all`, the same for right and wrong samples. Undefined without
    right samples with a strategy id; `retained` also in round 0. Source: Chao & Jost 2012 (Ecology
    93); Colwell et al. 2012; Chao 1984; as R's iNEXT computes them.
    """

    name: str = "richness"
    num_samples: int = 8

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` against `reference.probe`."""
        size, probe, before = equal_sizes(view, reference, self.num_samples)
        kinds = at(KINDS, size)
        probes = [probe] if before is None else [probe, before]
        right = _tables([p.where(p.correct == 1) for p in probes])
        if not right[0].sum():
            why = NO_STRATEGIES
            if codes(probe.strategy)[0]:
                why = "no right probe sample has a strategy id"
            return missing(kinds, why)
        return [
            *self._alone(kinds, right, {"all": _all(_tables(probes))}),
            *self._compared(kinds, right, before is None),
        ]

    @staticmethod
    def _alone(
        kinds: Mapping[Estimand, Kind],
        right: list[Floats],
        details: dict[str, Any],
    ) -> list[Reading]:
        """Of this round by itself."""
        sample_coverage, lower_bound, *_ = kinds
        # Groups, not problems: they are what the jackknife has left out.
        now, num = counted(right[0].sum(axis=0)), _num_groups(right)
        details = {"seen": now.seen, "samples": now.n, **details}
        share = cut(_estimate(right[:1], num, lambda c: coverage(c[0])), 0.0, 1.0)
        bound = cut(_estimate(right[:1], num, lambda c: chao1(c[0])), now.seen)
        return [
            reading(sample_coverage, share, "share", "none", "", details),
            reading(lower_bound, bound, "strategies", "up", ""),
        ]

    @staticmethod
    def _compared(
        kinds: Mapping[Estimand, Kind],
        right: list[Floats],
        is_first: bool,
    ) -> list[Reading]:
        """Against round 0, at the lesser coverage of the two."""
        *_, equal, retained = kinds
        now, then = (counted(table.sum(axis=0)) for table in (right[0], right[-1]))
        if then.n == 0:
            why = "no right sample had a strategy id at round 0"
            return missing({name: kinds[name] for name in (equal, retained)}, why)
        both = {
            **_json(at_equal_coverage(now, then, 1.0)),
            "doubled": _json(at_equal_coverage(now, then)),
        }
        num = _num_groups(right)
        # reach 1: by rarefaction only, which is less noisy than the extrapolation in `doubled`.
        left = cut(_compare(right, num, lambda b: b.now), 0.0)
        first = reading(
            equal,
            left,
            "strategies",
            "up",
            "",
            both,
        )
        if is_first:
            return [first, *missing({retained: kinds[retained]}, "round 0 is the reference")]
        share = cut(_compare(right, num, lambda b: b.now / b.then), 0.0)
        return [first, reading(retained, share, "ratio", "up", "", both)]


def _num_groups(tables: list[Floats]) -> int:
    """Groups of problems with a right sample in this round."""
    return int((tables[0].sum(axis=1) > 0).sum())


def _tables(probes: list[Samples]) -> list[Floats]:
    """Counts of each probe, (groups of problems, kinds); kinds and problems are the union's.

    The groups are those that the jackknife leaves out, the same ones of every probe.
    """
    kinds, kind_N = codes(np.concatenate([_kinds(p) for p in probes]))
    problems, problem_N = codes(np.concatenate([p.problem for p in probes]))
    group_N = jackknife_groups(len(problems))[problem_N]
    num_groups, width = int(group_N.max(initial=-1)) + 1, len(kinds)
    # Both probes were coded together, and are taken apart again here.
    ends = np.cumsum([len(p) for p in probes])
    out = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        group, kind = group_N[start:end], kind_N[start:end]
        cell = (group * width + kind)[kind >= 0]
        out.append(
            np.bincount(cell, minlength=num_groups * width).reshape(num_groups, width).astype(float)
        )
    return out


def _kinds(probe: Samples) -> NDArray[np.object_]:
    """Family, slice and strategy of each row as one name; None without a strategy."""
    columns = [codes(values) for values in (probe.family, probe.slice, probe.strategy)]
    kind_N = distinct([code_N for _, code_N in columns])
    # There are far fewer kinds than rows: each one's name is written once.
    first_K = np.unique(kind_N, return_index=True)[1]
    names = np.empty(len(first_K), dtype=object)
    for kind, row in enumerate(first_K.tolist()):
        if columns[-1][1][row] >= 0:
            names[kind] = "\n".join(labels[code_N[row]] for labels, code_N in columns)
    return np.asarray(names[kind_N])


def _estimate(
    tables: list[Floats],
    num: int,
    statistic: Callable[[list[Counted]], float],
) -> Estimate:
    totals = [t.sum(axis=0) for t in tables]
    value = statistic([counted(t) for t in totals])
    without = [
        statistic([counted(total - t[g]) for total, t in zip(totals, tables, strict=True)])
        for g in range(len(tables[0]))
    ]
    return jackknife(value, without, num)


def _compare(
    tables: list[Floats],
    num: int,
    of: Callable[[Compared], float],
) -> Estimate:
    def statistic(c: list[Counted]) -> float:
        # A group may hold all that one of the rounds has: then nothing is left to compare.
        if not c[0].n or not c[-1].n:
            return float("nan")
        return of(at_equal_coverage(c[0], c[-1], 1.0))

    return _estimate(tables, num, statistic)


def _all(tables: list[Floats]) -> dict[str, Any] | None:
    now, then = counted(tables[0].sum(axis=0)), counted(tables[-1].sum(axis=0))
    if not now.n or not then.n:
        return None
    return {
        "seen": now.seen,
        "samples": now.n,
        "sample_coverage": number(coverage(now)),
        "lower_bound": number(chao1(now)),
        **_json(at_equal_coverage(now, then, 1.0)),
    }


def _json(both: Compared) -> dict[str, Any]:
    return {
        "coverage": number(both.coverage),
        "now": number(both.now),
        "reference": number(both.then),
        "sizes": [number(both.size_now), number(both.size_then)],
    }
