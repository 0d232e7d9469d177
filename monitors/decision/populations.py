"""Made-up and real baselines to draw rounds from; `harms.py` harms a round.

`power.py` simulates with them; they know nothing of evidence. Suffixes as in `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.decision.responses import Grid, responses, texts
from ouroloop.monitors.decision.tables import Pair, Table, Tables, all_judged, table
from ouroloop.monitors.metrics.readings import of

Rows = NDArray[np.bool_]

SEED = 20_242
UNSEEN = "unseen"
"""The column of `unseen`, of a population that is itself a sample."""


@dataclass(frozen=True)
class Population:
    """What is drawn from: a row per problem with some samples.

    Attributes:
        main: the main family; its last answer label is nobody's yet.
        tail_P: the rows of the tail slice.
        others: the other families.
        about: where it comes from.
        free: problems of which nobody scored a sample, with the columns of `responses.py`.
        texts: entropies along fixed real texts, a text per row.
    """

    main: Table
    tail_P: Rows
    others: Table | None
    about: str
    free: Table | None = None
    texts: Table | None = None

    @cached_property
    def favourite_P(self) -> NDArray[np.int64]:
        """Each problem's most common strategy among right samples; -1 for none."""
        named_PK = np.where(self.main.right_PK & self.main.there_PK, self.main.strategy_PK, -1)
        num = int(named_PK.max(initial=-1)) + 1
        # No named right sample at all: there is no favourite to move to.
        if not num:
            return np.full(len(named_PK), -1)
        count_PT = np.stack([(named_PK == s).sum(axis=1) for s in range(num)], axis=1)
        return np.where(count_PT.any(axis=1), count_PT.argmax(axis=1), -1)

    @cached_property
    def common_cluster_P(self) -> NDArray[np.int64]:
        """Each unscored problem's most common cluster; -1 for none."""
        if self.free is None:
            return np.empty(0, dtype=np.int64)
        cluster_PK = self.free.grids[Grid.CLUSTER]
        num = int(cluster_PK.max(initial=-1)) + 1
        if not num:
            return np.full(len(cluster_PK), -1)
        count_PC = np.stack([(cluster_PK == c).sum(axis=1) for c in range(num)], axis=1)
        return np.where(count_PC.any(axis=1), count_PC.argmax(axis=1), -1)

    def new_code(self, grid: Grid) -> int:
        """A cluster or opening that no sample has."""
        return 0 if self.free is None else int(self.free.grids[grid].max(initial=-1)) + 1


@dataclass(frozen=True)
class Design:
    """How much is sampled.

    Attributes:
        num_problems: of the main family.
        num_samples: of each problem in a round.
        num_baseline: of each problem at the baseline.
        num_others: problems of the other families.
        num_free: problems of which nobody scores a sample.
    """

    num_problems: int
    num_samples: int
    num_baseline: int
    num_others: int = 0
    num_free: int = 0

    def __post_init__(self) -> None:
        if (
            max(self.num_problems, self.num_free) < 2
            or self.num_samples < 1
            or self.num_baseline < 1
        ):
            raise ValueError(f"{self}: expected at least 2 problems and 1 sample of each")


def of_baseline(
    view: RoundView,
    main_family: str,
    tail_slice: str,
    about: str,
) -> Population:
    """A baseline's own samples as the population."""
    probe = view.probe
    main = _table(of(probe, "family", main_family))
    in_tail = set(of(probe, "slice", tail_slice).problem)
    # Unscored other families cannot be guarded, so a power analysis leaves them out.
    rest = probe.where(probe.family != main_family)
    others = _table(rest) if np.isfinite(rest.correct).any() else None
    found = responses(probe, probe)
    free = None
    if found is not None and len(found[1]):
        free = found[0].now.rows(found[1])
        free = replace(free, grids={**free.grids, UNSEEN: unseen(free)})
    # Beside itself: only one side of the pair is of use here.
    along = texts(view.texts, view.texts)
    return Population(
        main,
        np.array([p in in_tail for p in main.problems], dtype=bool),
        others,
        about,
        free,
        None if along is None else along.now,
    )


def unseen(rows: Table) -> Floats:
    """Chance that a draw of this sample lies in a cluster that the file has not seen, (P, K).

    Draws are with replacement, and a sample that is drawn twice would be two of one cluster: of 16
    samples all apart, a sixteenth of the pairs would not be. Of a problem's n samples, c in one
    cluster are c (c - 1) of the n (n - 1) pairs of different samples. Two draws lie in it as often
    where each keeps its cluster with the root of (c - 1) n / (c (n - 1)).
    """
    place_N = np.nonzero(rows.there_PK)
    cluster_N = rows.grids[Grid.CLUSTER][place_N]
    # Those without a cluster are one together, as in `patterns.apart`.
    kinds, kind_N = np.unique(np.stack([place_N[0], cluster_N]), axis=1, return_inverse=True)
    count_N = np.bincount(kind_N.ravel(), minlength=kinds.shape[1])[kind_N.ravel()]
    size_N = rows.there_PK.sum(axis=1)[place_N[0]]
    # One sample alone shows no pair.
    keeps_N = np.sqrt((count_N - 1) * size_N / (count_N * np.maximum(size_N - 1, 1)))
    unseen_PK = np.zeros(rows.there_PK.shape)
    unseen_PK[place_N] = np.where(size_N > 1, 1 - keeps_N, 0.0)
    return unseen_PK


def typical() -> Population:
    """A simulated model: problems differ in difficulty, four ways at 45, 30, 17 and 8 %.

    The harder quarter is the tail; each problem has three wrong answers.
    """
    accuracy, num_problems, num_samples = 0.5, 200, 128
    rng = np.random.default_rng(SEED)
    # Four pseudo-samples: at 50 % the middle half of the problems lies between 33 and 67 %.
    spread = 4.0
    # Sorted, the easiest first, so that the hardest quarter is the last one.
    right_P = np.sort(rng.beta(spread * accuracy, spread * (1 - accuracy), num_problems))[::-1]
    shape = (num_problems, num_samples)
    right = rng.random(shape) < right_P[:, None]
    strategy = rng.choice(4, size=shape, p=(0.45, 0.30, 0.17, 0.08))
    # Four answers of its own for every problem, 0 being the right one.
    wrong = rng.choice(3, size=shape, p=(0.5, 0.3, 0.2)) + 1
    answer = 4 * np.arange(num_problems)[:, None] + np.where(right, 0, wrong)
    problems, labels = (
        tuple(f"{kind}{i}" for i in range(n))
        for kind, n in (("p", num_problems), ("a", 4 * num_problems + 1))
    )
    everywhere = np.ones(shape, dtype=bool)
    main = Table(problems, everywhere, right, strategy, answer, labels)
    # Mean 6.4 / (6.4 + 1.6) = 80 %.
    other = rng.random(shape) < rng.beta(6.4, 1.6, num_problems)[:, None]
    others = Table(
        problems,
        everywhere,
        other,
        np.full(shape, -1),
        answer,
        labels,
    )
    about = (
        f"a typical model: {accuracy:.0%} of the samples right (problems differ: Beta with"
        f" {spread:g} pseudo-samples), four strategies at 45, 30, 17 and 8 %, the hardest quarter"
        " is the tail, other families at 80 %"
    )
    return Population(
        main,
        np.arange(num_problems) >= 0.75 * num_problems,
        others,
        about,
    )


def _table(samples: Samples) -> Table:
    rows = samples.where(np.isfinite(samples.correct))
    # One label more than there are answers, for a shortcut that no sample has taken yet.
    answers = [*codes(rows.answer)[0], "\0nobody's"]
    return table(
        rows,
        sorted(set(rows.problem)),
        codes(rows.strategy)[0],
        answers,
    )


def _draw(
    rng: np.random.Generator,
    rows: Table,
    index_P: NDArray[np.int64],
    num: int,
) -> Table:
    """`num` samples of each of these problems, with replacement.

    Problems are named "index|place".
    """
    size_P = rows.there_PK.sum(axis=1)[index_P]
    column_PK = (rng.random((len(index_P), num)) * size_P[:, None]).astype(np.int64)
    at = (index_P[:, None], column_PK)
    # The place too: a problem that was drawn twice is two problems of the probe set.
    names = tuple(f"{i}|{j}" for j, i in enumerate(index_P))
    grids = {name: grid_PK[at] for name, grid_PK in rows.grids.items()}
    if UNSEEN in grids:
        is_new_PK = rng.random(column_PK.shape) < grids[UNSEEN]
        # Beyond every known code, and beyond `Population.new_code`, which a harm may use.
        first = int(rows.grids[Grid.CLUSTER].max(initial=-1)) + 2
        own_PK = first + np.arange(column_PK.size).reshape(column_PK.shape)
        grids[Grid.CLUSTER] = np.where(is_new_PK, own_PK, grids[Grid.CLUSTER])
    return Table(
        names,
        np.ones((len(index_P), num), dtype=bool),
        rows.right_PK[at],
        rows.strategy_PK[at],
        rows.answer_PK[at],
        rows.labels,
        grids,
        rows.legend,
    )


def _chosen(
    rng: np.random.Generator,
    rows: Table,
    num: int,
) -> NDArray[np.int64]:
    """Which problems the probe set has: all if as many are asked for, else drawn."""
    have = len(rows.problems)
    # Nothing to draw from: a probe set without a scored problem.
    if num == have or not have:
        return np.arange(have)
    return rng.choice(have, size=num, replace=num > have)


def drawn(
    population: Population,
    design: Design,
    baseline: np.random.Generator,
    rounds: Sequence[np.random.Generator],
) -> list[Tables]:
    """One baseline and rounds of the unchanged model. `baseline` decides the problems too."""
    # The order of draws is part of what a seed means: baseline first, then round by round.
    index_P = _chosen(baseline, population.main, design.num_problems)
    then = _draw(baseline, population.main, index_P, design.num_baseline)
    tail_P = np.flatnonzero(population.tail_P[index_P])
    family_P = np.zeros(len(index_P), dtype=np.int64)
    rest = population.others if design.num_others else None
    other_P, other = index_P, None
    if rest is not None:
        other_P = _chosen(baseline, rest, design.num_others)
        other = _draw(baseline, rest, other_P, design.num_baseline)
    free = population.free if design.num_free else None
    free_P, first = index_P, None
    if free is not None:
        free_P = _chosen(baseline, free, design.num_free)
        first = _draw(baseline, free, free_P, design.num_baseline)
    out = []
    for rng in rounds:
        main = Pair(then, _draw(rng, population.main, index_P, design.num_samples))
        others, responses = None, None
        if rest is not None and other is not None:
            others = Pair(other, _draw(rng, rest, other_P, design.num_samples))
        if free is not None and first is not None:
            responses = Pair(first, _draw(rng, free, free_P, design.num_samples))
        along = population.texts if responses is not None else None
        out.append(
            Tables(
                main,
                tail_P,
                main,
                family_P,
                others,
                all_judged(main, others),
                responses=responses,
                free_P=np.arange(len(free_P) if responses is not None else 0),
                texts=None if along is None else Pair(along, along),
            )
        )
    return out
