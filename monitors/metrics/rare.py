"""Rare-strategy mass (M5): which strategies were rare at round 0.

And how much of their correct mass is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Samples
from ouroloop.monitors.estimators.scores import (
    NUM_SPLITS,
    codes,
    families_with_strategies,
    scored,
    split_halves,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class RareMass:
    """Correct rare-strategy mass per shared problem, now and at round 0.

    `rare`: family -> strategy -> share of splits.
    """

    current: dict[str, float]
    reference: dict[str, float]
    rare: Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class _Coded:
    """A panel as numbers: problem and strategy (-1.

    None) of each row, and whether the row is right.
    """

    problem_N: Ints
    strategy_N: Ints
    right_N: Bools

    def mass(self, unit_P: Ints, rare: Ints, width: int, chosen_N: Bools) -> Floats:
        """Per problem: share of the chosen rows that are right and use a rare strategy of the problem's unit."""
        hit_N = chosen_N & self.right_N & (self.strategy_N >= 0)
        hit_N &= np.isin(unit_P[self.problem_N] * width + self.strategy_N, rare)
        num_P = np.bincount(self.problem_N[chosen_N], minlength=len(unit_P))
        return np.asarray(
            np.bincount(self.problem_N[hit_N], minlength=len(unit_P)) / num_P, dtype=float
        )

    def rare(self, unit_P: Ints, width: int, chosen_N: Bools, most: float) -> Ints:
        """Keys unit * width + strategy with a frequency of "right and this strategy" in (0.

        Most] among the chosen rows.
        """
        unit_N = unit_P[self.problem_N]
        hit_N = chosen_N & self.right_N & (self.strategy_N >= 0)
        keys, count = np.unique(unit_N[hit_N] * width + self.strategy_N[hit_N], return_counts=True)
        return np.asarray(
            keys[count <= most * np.bincount(unit_N[chosen_N])[keys // width] + 1e-9],
            dtype=np.int64,
        )


def rare_mass(
    current: Samples, reference: Samples, most: float = 0.10, num_splits: int = NUM_SPLITS
) -> RareMass:
    """Mass of round 0's rare correct strategies, now against then.

    Without the selection's own bias.

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
    families = families_with_strategies(reference)
    then_rows, now_rows = _usable(reference, families), _usable(current, families)
    shared = sorted(set(then_rows.problem) & set(now_rows.problem))
    if not shared:
        return RareMass({}, {}, {})
    labels = codes(np.concatenate([then_rows.strategy, now_rows.strategy]))[0]
    then, now = _coded(then_rows, shared, labels), _coded(now_rows, shared, labels)
    family_of = dict(zip(then_rows.problem, then_rows.family, strict=True))
    names, unit_P = [family_of[p] for p in shared], np.arange(len(shared))
    if np.bincount(then.problem_N).min() // 2 < 1 / most:
        names, unit_P = codes(np.array(names, dtype=object))
    width = max(len(labels), 1)
    mass, everything, times = (
        np.zeros((2, len(shared))),
        np.ones(len(now.problem_N), dtype=bool),
        np.zeros(len(names) * width),
    )
    for first, second in split_halves(
        (then.right_N.astype(np.int64), then.strategy_N), then.problem_N, num_splits
    ):
        rare = then.rare(unit_P, width, first, most)
        times[rare] += 1 / num_splits
        mass += (
            np.stack(
                [now.mass(unit_P, rare, width, everything), then.mass(unit_P, rare, width, second)]
            )
            / num_splits
        )
    shares: dict[str, dict[str, float]] = {}
    for key in np.flatnonzero(times).tolist():
        seen = shares.setdefault(names[key // width], {})
        seen[labels[key % width]] = max(seen.get(labels[key % width], 0.0), float(times[key]))
    now_P, then_P = (dict(zip(shared, row.tolist(), strict=True)) for row in mass)
    return RareMass(now_P, then_P, shares)


def _usable(panel: Samples, families: set[str]) -> Samples:
    """Scored rows of these families, of problems with at least two of them."""
    rows = scored(panel.where(np.array([f in families for f in panel.family], dtype=bool)))
    problem_N = codes(rows.problem)[1]
    return rows.where((np.bincount(problem_N) >= 2)[problem_N]) if len(rows) else rows


def _coded(rows: Samples, problems: list[str], labels: list[str]) -> _Coded:
    problem, strategy = {p: i for i, p in enumerate(problems)}, {s: i for i, s in enumerate(labels)}
    rows = rows.where(np.array([p in problem for p in rows.problem], dtype=bool))
    return _Coded(
        np.array([problem[p] for p in rows.problem], dtype=np.int64),
        np.array(
            [strategy.get(s, -1) if isinstance(s, str) else -1 for s in rows.strategy],
            dtype=np.int64,
        ),
        rows.correct == 1,
    )
