"""The samples of a probe set as integer tables, a problem per row; knows nothing of guards.

Suffixes: `_P` problems, `_K` samples of a problem, `_N` rows of samples, `_A` answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Objects, Samples
from ouroloop.monitors.columns import codes, indexed, is_among
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.order import permuted
from ouroloop.monitors.metrics.readings import of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """The samples of one round as numbers, a problem per row; the rest of a row is padding.

    Attributes:
        problems: their ids.
        there_PK: no padding.
        right_PK: the answer is right.
        strategy_PK: codes, -1 for none.
        answer_PK: codes, -1 for none.
        labels: what answer codes stand for.
        grids: further columns by name, (P, K) each: codes, -1 for none, or scores, NaN for unknown.
        legend: what the codes of strategies and of such columns stand for, by the column's name.
    """

    problems: tuple[str, ...]
    there_PK: Bools
    right_PK: Bools
    strategy_PK: Ints
    answer_PK: Ints
    labels: tuple[str, ...] = ()
    grids: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    legend: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def wrong_share(self) -> Floats:
        """Each wrong answer's share of all samples, every problem weighing the same."""
        # Every problem weighs the same, however many samples it has.
        size_P1 = np.maximum(self.there_PK.sum(axis=1, keepdims=True), 1)
        weight_PK = self.there_PK / size_P1 / max(len(self.problems), 1)
        # Right answers repeat too, and are no shortcut.
        read_PK = (self.answer_PK >= 0) & ~self.right_PK
        share_A = np.bincount(
            self.answer_PK[read_PK],
            weights=weight_PK[read_PK],
            minlength=max(len(self.labels), 1),
        )
        return np.asarray(share_A, dtype=float)

    def columns(self, chosen: slice) -> Table:
        """Some columns of every problem."""
        return self._with(self.problems, (slice(None), chosen))

    def rows(self, index_P: Ints) -> Table:
        """Some problems."""
        return self._with(tuple(self.problems[i] for i in index_P), index_P)

    def split(self) -> tuple[Table, Table]:
        """The first half of every problem's samples, by its own number, and the others."""
        num_P1 = self.there_PK.sum(axis=1, keepdims=True)
        first_PK = self.there_PK & (self.there_PK.cumsum(axis=1) <= num_P1 // 2)
        return self.where(first_PK), self.where(self.there_PK & ~first_PK)

    def where(self, chosen_PK: Bools) -> Table:
        """Some samples of every problem."""
        kept = replace(self, there_PK=chosen_PK).from_the_left()
        return kept.columns(slice(0, int(chosen_PK.sum(axis=1).max(initial=0))))

    def from_the_left(self) -> Table:
        """The same samples in the same order, with no padding before one of them."""
        order_PK = np.argsort(~self.there_PK, axis=1, kind="stable")
        return self._with(self.problems, (np.arange(len(order_PK))[:, None], order_PK))

    def _with(self, problems: tuple[str, ...], at: Any) -> Table:
        return Table(
            problems,
            self.there_PK[at],
            self.right_PK[at],
            self.strategy_PK[at],
            self.answer_PK[at],
            self.labels,
            {name: grid_PK[at] for name, grid_PK in self.grids.items()},
            self.legend,
        )


class Pair(NamedTuple):
    """A baseline and a round, over the same problems in the same order and with common codes."""

    baseline: Table
    now: Table

    def rows(self, index_P: Ints) -> Pair:
        """Some problems."""
        return Pair(self.baseline.rows(index_P), self.now.rows(index_P))

    def halves(self) -> tuple[Pair, Pair]:
        """Every second sample of both sides, and the others: to pick on one, measure on the other.

        Columns are in a random order, so that any half is as good. Every second one, and not the
        first half: a problem with fewer samples than others has its share in both.
        """
        first, rest = (
            Pair(self.baseline.columns(part), self.now.columns(part))
            for part in (slice(0, None, 2), slice(1, None, 2))
        )
        return first, rest


@dataclass(frozen=True)
class Tables:
    """A baseline and a round as tables: all that a guarded quantity may be computed from.

    Attributes:
        main: the main family.
        tail_P: its rows that lie in the tail slice.
        with_strategies: all families that have strategy ids.
        family_P: codes of the families of `with_strategies`.
        others: every other family together, if there is one.
        judged: of all families and all samples, whether they were scored; None: not known.
        has_tail: the baseline has rows of the tail slice, scored or not.
        responses: all samples of all problems, scored or not, with the columns of `responses.py`.
            None where the baseline scored samples of every problem and no judge approved any.
        free_P: the rows of `responses` of which the baseline has no scored sample.
        free_family_P: their families.
        texts: entropies along fixed real texts, if both sides have them.
        traces: what round 0's answers kept of their probability; None: the baseline scored none.
        fits_clusters: of the baseline, see `RoundView`.
    """

    main: Pair
    tail_P: Ints
    with_strategies: Pair
    family_P: Ints
    others: Pair | None = None
    judged: Pair | None = None
    has_tail: bool = False
    responses: Pair | None = None
    free_P: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    free_family_P: Objects = field(default_factory=lambda: np.empty(0, dtype=object))
    texts: Pair | None = None
    traces: Pair | None = None
    fits_clusters: bool = False

    def without(self, families: Collection[str]) -> Tables:
        """The same without the unscored problems of some families."""
        kept_P = ~is_among(self.free_family_P, families)
        rows_P, family_P = self.free_P[kept_P], self.free_family_P[kept_P]
        return replace(self, free_P=rows_P, free_family_P=family_P)

    @cached_property
    def free(self) -> Pair | None:
        """The samples of problems that nobody scored; None: there is no such problem."""
        if self.responses is None or not len(self.free_P):
            return None
        return self.responses.rows(self.free_P)


def tables_of(
    baseline: Samples,
    probe: Samples,
    main_family: str,
    tail_slice: str,
) -> Tables:
    """The samples of a baseline and of a round as tables."""
    then, now = of(baseline, "family", main_family), of(probe, "family", main_family)
    main = pair(then, now)
    # The baseline says which problems are in the tail: a round cannot take them out.
    in_tail = {*codes(of(then, "slice", tail_slice).problem)[0]}
    tail_P = np.array(
        [i for i, p in enumerate(main.baseline.problems) if p in in_tail],
        dtype=np.int64,
    )
    # By the baseline: a round that loses all its names must still be compared.
    families = scores.families_with_strategies(baseline)
    named = [side.where(is_among(side.family, families)) for side in (baseline, probe)]
    with_strategies = pair(*named)
    rest = [side.where(side.family != main_family) for side in (baseline, probe)]
    return Tables(
        main,
        tail_P,
        with_strategies,
        _families_of(named[0], with_strategies.baseline.problems),
        pair(*rest) if len(rest[0]) else None,
        judged(baseline, probe),
        bool(in_tail),
    )


def _families_of(samples: Samples, problems: tuple[str, ...]) -> Ints:
    """Family code of each problem, (P,)."""
    family = dict(zip(samples.problem, samples.family, strict=True))
    names = {name: i for i, name in enumerate(sorted({family[p] for p in problems}))}
    return np.array([names[family[p]] for p in problems], dtype=np.int64)


def pair(baseline: Samples, now: Samples) -> Pair:
    """Both over the problems of which the baseline has scored samples, with common codes.

    A problem of which `now` has none is a row of padding.
    """
    scored = [s.where(np.isfinite(s.correct)) for s in (baseline, now)]
    # Sorted, here and below: no code may depend on the order of the rows.
    problems = codes(scored[0].problem)[0]
    known = [
        sorted({*codes(getattr(scored[0], name))[0], *codes(getattr(scored[1], name))[0]})
        for name in ("strategy", "answer")
    ]
    first, second = (table(s, problems, known[0], known[1]) for s in scored)
    return Pair(first, second)


def judged(baseline: Samples, now: Samples) -> Pair:
    """All samples of the problems of which the baseline has scored ones, scored or not.

    `right_PK` says which were scored: `pair` knows the scored ones only.
    """
    # The tables read `correct`: here it says whether a sample was scored at all.
    problems = codes(baseline.problem[np.isfinite(baseline.correct)])[0]
    first, second = (
        table(replace(s, correct=np.isfinite(s.correct).astype(float)), problems, (), ())
        for s in (baseline, now)
    )
    return Pair(first, second)


def all_judged(main: Pair, others: Pair | None) -> Pair:
    """What `judged` gives where every sample was scored, from the tables: for simulations."""
    # Families may have different numbers of samples: the narrower table is padded.
    sides = []
    for parts in zip(main, *([others] if others else []), strict=True):
        wide = max(rows.there_PK.shape[1] for rows in parts)
        there = np.concatenate(
            [np.pad(rows.there_PK, ((0, 0), (0, wide - rows.there_PK.shape[1]))) for rows in parts]
        )
        none = np.full(there.shape, -1, dtype=np.int64)
        problems = tuple(p for rows in parts for p in rows.problems)
        sides.append(Table(problems, there, there, none, none))
    return Pair(sides[0], sides[1])


def table(
    samples: Samples,
    problems: Sequence[str],
    strategies: Sequence[str],
    answers: Sequence[str],
) -> Table:
    """The scored rows of these problems as a table.

    The order of a problem's rows is `permuted`: the same for every order of the same rows, see
    `monitors/estimators/order.py`.

    Args:
        samples: the rows.
        problems: the table's rows.
        strategies: what strategy codes index; others and None get -1.
        answers: the same for answers.
    """
    rows = samples.where(np.isfinite(samples.correct))
    chosen_N, at, shape = places(rows.problem, problems)
    rows = rows.where(chosen_N)
    there, right = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    named = [np.full(shape, -1, dtype=np.int64) for _ in range(2)]
    there[at], right[at] = True, rows.correct == 1
    for grid, values, known in zip(
        named,
        (rows.strategy, rows.answer),
        (strategies, answers),
        strict=True,
    ):
        grid[at] = indexed(values, known)
    return shuffled(
        Table(
            tuple(problems),
            there,
            right,
            named[0],
            named[1],
            tuple(answers),
            legend={"strategy": tuple(strategies)},
        )
    )


def places(
    problem: Objects,
    problems: Sequence[str],
) -> tuple[Bools, tuple[Ints, Ints], tuple[int, int]]:
    """Where rows go in a table of these problems.

    Returns:
        Which rows have a problem of the table, (N,); their row and column; the table's shape.
    """
    # Rows of other problems get -1 and are left out.
    problem_N = indexed(problem, problems)
    chosen_N = problem_N >= 0
    problem_N = problem_N[chosen_N]
    # Rows fill their problem's columns from the left; what is left of the widest is padding.
    size_P = np.bincount(problem_N, minlength=len(problems))
    order = np.argsort(problem_N, kind="stable")
    column_N = np.empty(len(problem_N), dtype=np.int64)
    column_N[order] = np.arange(len(problem_N)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    return chosen_N, (problem_N, column_N), (len(problems), int(size_P.max(initial=0)))


def shuffled(rows: Table) -> Table:
    """The same with every problem's samples in a random order that their content alone decides."""
    problem_N, column_N = rows.there_PK.nonzero()
    at = (problem_N, column_N)
    order_N = permuted(
        problem_N,
        rows.right_PK[at],
        rows.strategy_PK[at],
        rows.answer_PK[at],
        *(rows.grids[name][at] for name in sorted(rows.grids)),
    )
    source_PK = np.zeros(rows.there_PK.shape, dtype=np.int64)
    source_PK[at] = column_N[order_N]
    # Padding stays where it is: every problem's samples fill its row from the left.
    there = rows.there_PK

    def moved(grid_PK: NDArray[Any]) -> NDArray[Any]:
        padding = np.nan if grid_PK.dtype.kind == "f" else -1
        return np.where(there, np.take_along_axis(grid_PK, source_PK, axis=1), padding)

    right = there & np.take_along_axis(rows.right_PK, source_PK, axis=1)
    return replace(
        rows,
        right_PK=right,
        strategy_PK=moved(rows.strategy_PK),
        answer_PK=moved(rows.answer_PK),
        grids={name: moved(grid_PK) for name, grid_PK in rows.grids.items()},
    )
