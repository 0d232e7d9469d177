"""Rare-strategy mass (M5): how much is left of the strategies that were rare at round 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Samples
from ouroloop.monitors.columns import codes, indexed, is_among
from ouroloop.monitors.estimators.halves import first_half
from ouroloop.monitors.estimators.scores import (
    NUM_SPLITS,
    by_problem,
    families_with_strategies,
    scored,
    split_halves,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class RareMass:
    """Correct rare-strategy mass per shared problem.

    Attributes:
        current: problem -> mass in this round.
        reference: problem -> mass at round 0.
        rare: family (or problem) -> strategy -> share of the splits in which it was rare.
    """

    current: dict[str, float]
    reference: dict[str, float]
    rare: Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class _Coded:
    """A probe as numbers.

    Attributes:
        problem_N: of each row.
        strategy_N: likewise; -1 for none.
        right_N: whether the row is right.
    """

    problem_N: Ints
    strategy_N: Ints
    right_N: Bools

    def mass(
        self,
        unit_P: Ints,
        rare: Ints,
        width: int,
        chosen_N: Bools,
    ) -> Floats:
        """Per problem: share of the chosen rows that are right by a rare strategy of its unit."""
        hit_N = chosen_N & self.right_N & (self.strategy_N >= 0)
        hit_N &= np.isin(unit_P[self.problem_N] * width + self.strategy_N, rare)
        num_P = np.bincount(self.problem_N[chosen_N], minlength=len(unit_P))
        hits_P = np.bincount(self.problem_N[hit_N], minlength=len(unit_P))
        # NaN for a problem whose scored rows are all among those that something was picked on.
        return np.asarray(hits_P / np.where(num_P > 0, num_P, np.nan), dtype=float)

    def rare(
        self,
        unit_P: Ints,
        width: int,
        chosen_N: Bools,
        most: float,
    ) -> Ints:
        """Keys, unit * width + strategy, of what is rare among the chosen rows.

        Rare: "right and this strategy" has a frequency in (0, most].
        """
        unit_N = unit_P[self.problem_N]
        hit_N = chosen_N & self.right_N & (self.strategy_N >= 0)
        keys, count = np.unique(unit_N[hit_N] * width + self.strategy_N[hit_N], return_counts=True)
        size_M = np.bincount(unit_N[chosen_N])[keys // width]
        # 1e-9: a frequency of exactly `most` is rare, whatever rounding does to it.
        return np.asarray(keys[count <= most * size_M + 1e-9], dtype=np.int64)


@dataclass(frozen=True)
class _Pair:
    """Both rounds over the problems that they share; a unit is a problem or a whole family."""

    then: _Coded
    now: _Coded
    problems: list[str]
    labels: list[str]
    unit_P: Ints
    names: list[str]

    @property
    def width(self) -> int:
        """Keys of one unit."""
        return max(len(self.labels), 1)

    def masses(self, rare: Ints, measured_N: Bools) -> Floats:
        """Mass of the rare strategies now and then, (2, P); then on the measured rows alone."""
        # This round's samples picked nothing, so all of them may measure.
        every_N = np.ones(len(self.now.problem_N), dtype=bool)
        return np.stack(
            [
                self.now.mass(self.unit_P, rare, self.width, every_N),
                self.then.mass(self.unit_P, rare, self.width, measured_N),
            ]
        )

    def by_problem(self, mass_P: Floats) -> dict[str, float]:
        """The masses by their problems."""
        return by_problem(self.problems, mass_P)


def rare_mass(
    current: Samples,
    reference: Samples,
    most: float = 0.10,
    num_splits: int = NUM_SPLITS,
) -> RareMass:
    """Mass of round 0's rare correct strategies now and then, without the selection's own bias.

    Per split of round 0's samples: half A picks the pairs (unit, strategy) whose frequency of
    "right and this strategy" lies in (0, most]; half B gives their mass at round 0, p_B; all
    current samples give their mass now. Both are averaged over the splits. Since B and the current
    samples are independent of the choice, an unchanged model has the same expectation in both
    (picking and measuring on the same half would regress to the mean and read a loss). The unit is
    the problem where half A has at least 1 / most samples of every problem, so that such a
    frequency can be seen; else the problem's family.

    Source: split-sample estimation after selection (Cox 1975, Biometrika 62); "tails disappear
    first": Shumailov et al. 2305.17493.
    """
    pair = _pair(current, reference, most)
    if pair is None:
        return RareMass({}, {}, {})
    mass, times = np.zeros((2, len(pair.problems))), np.zeros(len(pair.names) * pair.width)
    keys = (pair.then.right_N.astype(np.int64), pair.then.strategy_N)
    for first, second in split_halves(keys, pair.then.problem_N, num_splits):
        rare = pair.then.rare(pair.unit_P, pair.width, first, most)
        times[rare] += 1 / num_splits
        mass += pair.masses(rare, second) / num_splits
    shares: dict[str, dict[str, float]] = {}
    for key in np.flatnonzero(times).tolist():
        # A key is unit * width + strategy.
        label = pair.labels[key % pair.width]
        seen = shares.setdefault(pair.names[key // pair.width], {})
        seen[label] = max(seen.get(label, 0.0), float(times[key]))
    return RareMass(pair.by_problem(mass[0]), pair.by_problem(mass[1]), shares)


def held_out_rare_mass(
    current: Samples,
    reference: Samples,
    most: float = 0.10,
) -> tuple[dict[str, float], dict[str, float]]:
    """The decision rule's own split of `rare_mass`: per problem, now and then.

    Rare is what one fixed half of the reference's samples shows (`halves.first_half`); its mass is
    that in the other half, and in all current samples.
    """
    pair = _pair(current, reference, most)
    if pair is None:
        return {}, {}
    first_N = first_half(_rows_of(_usable(reference), pair.problems))
    rare = pair.then.rare(pair.unit_P, pair.width, first_N, most)
    now_P, then_P = pair.masses(rare, ~first_N)
    return pair.by_problem(now_P), pair.by_problem(then_P)


def _pair(
    current: Samples,
    reference: Samples,
    most: float,
) -> _Pair | None:
    """Both rounds as numbers; None when they share no problem."""
    families = families_with_strategies(reference)
    # Round 0 says which families take part.
    then_rows, now_rows = _usable(reference, families), _usable(current, families)
    shared = sorted({*codes(then_rows.problem)[0]} & {*codes(now_rows.problem)[0]})
    if not shared:
        return None
    labels = sorted({*codes(then_rows.strategy)[0], *codes(now_rows.strategy)[0]})
    then, now = (_coded(_rows_of(r, shared), shared, labels) for r in (then_rows, now_rows))
    family_of = dict(zip(then_rows.problem, then_rows.family, strict=True))
    names, unit_P = [str(family_of[p]) for p in shared], np.arange(len(shared))
    # A half of round 0's samples must be able to show a frequency of `most` in one problem.
    if np.bincount(then.problem_N).min() // 2 < 1 / most:
        names, unit_P = codes(np.array(names, dtype=object))
    return _Pair(then, now, shared, labels, unit_P, names)


def _usable(probe: Samples, families: set[str] | None = None) -> Samples:
    """Scored rows of these families, of problems with at least two of them."""
    # Of problems with two rows at least: one to pick on, one to measure.
    chosen = families_with_strategies(probe) if families is None else families
    rows = scored(probe.where(is_among(probe.family, chosen)))
    problem_N = codes(rows.problem)[1]
    return rows.where((np.bincount(problem_N) >= 2)[problem_N]) if len(rows) else rows


def _rows_of(rows: Samples, problems: list[str]) -> Samples:
    chosen = set(problems)
    return rows.where(is_among(rows.problem, chosen))


def _coded(
    rows: Samples,
    problems: list[str],
    labels: list[str],
) -> _Coded:
    return _Coded(
        indexed(rows.problem, problems), indexed(rows.strategy, labels), rows.correct == 1
    )
