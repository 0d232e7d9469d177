"""Scores of small blocks of a problem's samples: what the e-processes bet on.

Pure functions of integer tables; knows nothing of monitors.

Every guarded quantity is the expectation of a score in [0, 1] of a block of `size` independent
samples of one problem: 1 sample (right or not), 2 (both right, by different strategies), k (any
right), 8 (does the share of the majority's answer say how often it is right). Disjoint blocks of
one problem are independent, so each can be bet on by itself; averaging over several ways to cut the
samples into blocks loses nothing (a U-statistic).

Suffixes: `_P` problems, `_K` samples of a problem, `_R` ways to cut, `_M` blocks of a cut, `_S`
samples of a block, `_T` strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Samples
from ouroloop.monitors.estimators.scores import codes
from ouroloop.monitors.order import permuted

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEED = 20_241
MOST_CUTS = 16
VOTE_SIZE = 8


@dataclass(frozen=True)
class Table:
    """A panel's samples as numbers, a problem per row.

    Columns beyond a problem's own samples are padding.

    there_PK: no padding. right_PK: the answer is right. strategy_PK, answer_PK: codes, -1 for none.
    `labels`: what answer codes stand for.
    """

    problems: tuple[str, ...]
    there_PK: Bools
    right_PK: Bools
    strategy_PK: Ints
    answer_PK: Ints
    labels: tuple[str, ...] = ()

    @cached_property
    def wrong_share(self) -> Floats:
        """Each wrong answer's share of all samples, every problem weighing the same."""
        weight_PK = (
            self.there_PK
            / np.maximum(self.there_PK.sum(axis=1, keepdims=True), 1)
            / max(len(self.problems), 1)
        )
        read_PK = (self.answer_PK >= 0) & ~self.right_PK
        share_A = np.bincount(
            self.answer_PK[read_PK], weights=weight_PK[read_PK], minlength=max(len(self.labels), 1)
        )
        return np.asarray(share_A, dtype=float)

    def columns(self, chosen: slice) -> Table:
        """Some columns of every problem."""
        return self._with(self.problems, (slice(None), chosen))

    def rows(self, index_P: Ints) -> Table:
        """Some problems."""
        return self._with(tuple(self.problems[i] for i in index_P), index_P)

    def _with(self, problems: tuple[str, ...], at: Any) -> Table:
        return Table(
            problems,
            self.there_PK[at],
            self.right_PK[at],
            self.strategy_PK[at],
            self.answer_PK[at],
            self.labels,
        )


BlockScore = Callable[[Table, Ints], Floats]
"""(table, columns_RMS) -> score_PRM in [0, 1]; padding may give anything."""


def table(
    samples: Samples, problems: Sequence[str], strategies: Sequence[str], answers: Sequence[str]
) -> Table:
    """The scored rows of these problems.

    With codes into `strategies` and `answers` (others and None: -1).

    The order of a problem's rows is `permuted`: the same for every order of the same rows, see
    `monitors/order.py`.
    """
    rows = samples.where(np.isfinite(samples.correct))
    place = {p: i for i, p in enumerate(problems)}
    problem_N = np.array([place.get(p, -1) for p in rows.problem], dtype=np.int64)
    rows, problem_N = rows.where(problem_N >= 0), problem_N[problem_N >= 0]
    size_P = np.bincount(problem_N, minlength=len(problems))
    order = np.argsort(problem_N, kind="stable")
    column_N = np.empty(len(rows), dtype=np.int64)
    column_N[order] = np.arange(len(rows)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    shape = (len(problems), int(size_P.max(initial=0)))
    there, right = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    named = [np.full(shape, -1, dtype=np.int64) for _ in range(2)]
    at = (problem_N, column_N)
    there[at], right[at] = True, rows.correct == 1
    for grid, values, known in zip(
        named, (rows.strategy, rows.answer), (strategies, answers), strict=True
    ):
        index = {label: i for i, label in enumerate(known)}
        grid[at] = [index.get(value, -1) for value in values]
    return shuffled(Table(tuple(problems), there, right, named[0], named[1], tuple(answers)))


def shuffled(rows: Table) -> Table:
    """The same with every problem's samples in a random order that their content alone decides (`monitors/order.py`)."""
    problem_N, column_N = rows.there_PK.nonzero()
    at = (problem_N, column_N)
    order_N = permuted(problem_N, rows.right_PK[at], rows.strategy_PK[at], rows.answer_PK[at])
    source_PK = np.zeros(rows.there_PK.shape, dtype=np.int64)
    source_PK[at] = column_N[order_N]
    there = rows.there_PK
    right = there & np.take_along_axis(rows.right_PK, source_PK, axis=1)
    strategy, answer = (
        np.where(there, np.take_along_axis(grid, source_PK, axis=1), -1)
        for grid in (rows.strategy_PK, rows.answer_PK)
    )
    return Table(rows.problems, there, right, strategy, answer, rows.labels)


def judged_tables(anchor: Samples, now: Samples) -> tuple[Table, Table]:
    """All samples of the problems of which the anchor has scored ones, scored or not.

    `right_PK` says which were scored.

    For the share of samples that are judged at all: `tables` knows the scored ones only.
    """
    problems = sorted(set(anchor.where(np.isfinite(anchor.correct)).problem))
    first, second = (
        table(replace(s, correct=np.isfinite(s.correct).astype(float)), problems, (), ())
        for s in (anchor, now)
    )
    return first, second


def all_judged(
    main: tuple[Table, Table], others: tuple[Table, Table] | None
) -> tuple[Table, Table]:
    """What `judged_tables` gives of panels in which every sample was scored.

    From their tables: for simulations.
    """
    sides = []
    for parts in zip(main, *([others] if others else []), strict=True):
        wide = max(rows.there_PK.shape[1] for rows in parts)
        there = np.concatenate(
            [np.pad(rows.there_PK, ((0, 0), (0, wide - rows.there_PK.shape[1]))) for rows in parts]
        )
        none = np.full(there.shape, -1, dtype=np.int64)
        sides.append(
            Table(tuple(p for rows in parts for p in rows.problems), there, there, none, none)
        )
    return sides[0], sides[1]


def tables(anchor: Samples, now: Samples) -> tuple[Table, Table]:
    """Both panels over the problems of which the anchor has scored samples, with common codes.

    Where `now` has none: padding.
    """
    scored = [s.where(np.isfinite(s.correct)) for s in (anchor, now)]
    problems = sorted(set(scored[0].problem))
    known = [
        sorted({*codes(getattr(scored[0], name))[0], *codes(getattr(scored[1], name))[0]})
        for name in ("strategy", "answer")
    ]
    first, second = (table(s, problems, known[0], known[1]) for s in scored)
    return first, second


@lru_cache(maxsize=64)
def cuts(num: int, size: int) -> Ints:
    """Ways to cut `num` columns into disjoint blocks of `size`: shape (R, M, S), M = num // size.

    The same for every problem.

    size 1: the one way. size 2 and num even: rounds of a tournament, so that every pair occurs
    exactly once (at most `MOST_CUTS` rounds). Else `MOST_CUTS` random ways, fixed once and for all.
    """
    if size == 1:
        return np.arange(num, dtype=np.int64).reshape(1, num, 1)
    if size == 2 and num % 2 == 0:
        ring = list(range(1, num))
        rounds = []
        for _ in range(num - 1):
            row = [0, *ring]
            rounds.append([(row[i], row[num - 1 - i]) for i in range(num // 2)])
            ring = [ring[-1], *ring[:-1]]
        return np.array(rounds[:MOST_CUTS], dtype=np.int64)
    rng = np.random.default_rng(SEED)
    most = num // size
    return np.stack(
        [rng.permutation(num)[: most * size].reshape(most, size) for _ in range(MOST_CUTS)]
    ).astype(np.int64)


def block_scores(rows: Table, size: int, score: BlockScore) -> Floats:
    """The score of every block of every cut, shape (P, R, M).

    NaN where a block reaches into padding.

    M = 0 where there is not one block: no problems, or too few columns. Then `score` is not asked.
    """
    num_problems, num_columns = rows.there_PK.shape
    if not num_problems or num_columns < size:
        return np.full((num_problems, 1, 0), np.nan)
    columns_RMS = cuts(num_columns, size)
    value_PRM = score(rows, columns_RMS)
    if rows.there_PK.all():
        return value_PRM
    return np.where(rows.there_PK[:, columns_RMS].all(axis=-1), value_PRM, np.nan)


def right(rows: Table, columns_RMS: Ints) -> Floats:
    """Any of the block is right. size 1: pass@1; size k: pass@k. Source: Chen et al.

    2021 (2107.03374).
    """
    return np.asarray(
        np.logical_or.reduce(
            [rows.right_PK[:, column_RM] for column_RM in np.moveaxis(columns_RMS, -1, 0)]
        ),
        dtype=float,
    )


def distinct_right(rows: Table, columns_RMS: Ints) -> Floats:
    """Both of two are right and differ in strategy (none counts as one of its own).

    Its mean is the distinct-correct-pair probability.
    """
    named_PK = np.where(rows.right_PK, rows.strategy_PK + 2, 0).astype(
        np.int32
    )  # 0: wrong, 1: right by none
    one, other = named_PK[:, columns_RMS[..., 0]], named_PK[:, columns_RMS[..., 1]]
    return np.asarray((one > 0) & (other > 0) & (one != other), dtype=float)


def candour(rows: Table, columns_RMS: Ints) -> Floats:
    """(1 - over-confidence) / 2 of a block: 0.5 when its votes are calibrated in the mean.

    The first half votes (ties: the earliest); confidence is the winner's share in the second half,
    over-confidence is confidence - right. Unreadable answers vote for nothing; without a readable
    vote both are 0.
    """
    half = columns_RMS.shape[-1] // 2
    answer = rows.answer_PK.astype(np.int32)[:, columns_RMS]
    first, second = answer[..., :half], answer[..., half:]
    votes = sum((first == first[..., i : i + 1]).astype(np.int8) for i in range(half)) * (
        first >= 0
    )
    winner = votes.argmax(axis=-1)[..., None]
    chosen = np.take_along_axis(first, winner, axis=-1)
    some = chosen[..., 0] >= 0
    confidence = (second == chosen).mean(axis=-1) * some
    correct = (
        np.take_along_axis(rows.right_PK[:, columns_RMS[..., :half]], winner, axis=-1)[..., 0]
        & some
    )
    return np.asarray((1 - (confidence - correct)) / 2, dtype=float)


def not_wrongly(code: int) -> BlockScore:
    """1 unless the single sample gives this answer and is wrong.

    For an answer picked on other samples.
    """
    return lambda rows, columns_RMS: np.asarray(
        ((rows.answer_PK[:, columns_RMS] != code) | rows.right_PK[:, columns_RMS]).all(axis=-1),
        dtype=float,
    )


def most_grown_answer(anchor: Table, now: Table) -> int:
    """Code of the wrong answer whose share lies furthest above the anchor's.

    -2 (nobody's) without readable ones.

    Right answers repeat too, where problems share them, and the more the better a model gets: they
    are no shortcut.
    """
    return int(np.argmax(now.wrong_share - anchor.wrong_share)) if len(now.labels) else -2


def rare_right(rare_PT: Bools) -> BlockScore:
    """The single sample is right.

    By a strategy (T codes) that is marked as rare for its problem: for marks made on other samples.
    """

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        named = rows.strategy_PK[:, columns_RMS[..., 0]]
        index_P = np.arange(len(named))[:, None, None]
        return np.asarray(
            rows.right_PK[:, columns_RMS[..., 0]] & (named >= 0) & rare_PT[index_P, named],
            dtype=float,
        )

    return score


def rare_strategies(
    chosen: Table, family_P: Ints, num_strategies: int, most: float = 0.10
) -> Bools:
    """Which strategies are rare but alive for each problem, (P, T).

    "right and this strategy" has a frequency in (0, most] among `chosen`.

    Frequencies are the problem's own where every problem has 1 / most samples or more, else its
    family's.
    """
    size_P = chosen.there_PK.sum(axis=1)
    unit_P = np.arange(len(size_P)) if len(size_P) and size_P.min() >= 1 / most else family_P
    hit_PK = chosen.right_PK & (chosen.strategy_PK >= 0) & chosen.there_PK
    shape = (int(unit_P.max(initial=-1)) + 1, max(num_strategies, 1))
    cell_N = np.repeat(unit_P, hit_PK.sum(axis=1)) * shape[1] + chosen.strategy_PK[hit_PK]
    count_UT = np.bincount(cell_N, minlength=shape[0] * shape[1]).reshape(shape)
    size_U = np.bincount(unit_P, weights=size_P, minlength=len(count_UT))
    return np.asarray(
        ((count_UT > 0) & (count_UT <= most * size_U[:, None] + 1e-9))[unit_P], dtype=bool
    )
