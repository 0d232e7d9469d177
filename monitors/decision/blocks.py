"""Scores of small blocks of a problem's samples: what the e-processes bet on.

These are pure functions of integer tables.

Every guarded quantity is the expectation of a score in [0, 1] of a block of `size` independent
samples of one problem: 1 sample (right or not), 2 (both right, by different strategies), k (any
right), 8 (does the share of the majority's answer say how often it is right). Disjoint blocks of
one problem are independent, so each can be bet on by itself; averaging over several ways to cut the
samples into blocks loses nothing (a U-statistic).

Suffixes: `_P` problems, `_K` samples of a problem, `_R` ways to cut, `_M` blocks of a cut, `_S`
samples of a block, `_T` strategies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision.tables import Bools, Ints, Pair, Table
from ouroloop.monitors.estimators.ustatistics import distinct_variance

SEED = 20_241
# All 15 ways to cut 16 samples into pairs are used. More ways average out what little is left of
# the choice of cuts, and each costs as much time as the first.
MOST_CUTS = 16
# Four samples vote and four say how sure the vote is: with fewer, ties decide most votes; with
# more, a usual round of 8 or 16 samples has one block at most.
VOTE_SIZE = 8
# A strategy of this share of a problem's samples, or less, is rare.
MOST_RARE = 0.10


BlockScore = Callable[[Table, Ints], Floats]
"""(table, columns_RMS) -> score_PRM in [0, 1]; padding may give anything."""
BlockVariance = Callable[[Table, int], Floats]
"""(table, size) -> the variance of each problem's mean score where it has one block, (P,)."""


def largest_block(pair: Pair, share: float) -> int:
    """The largest block that this share of the problems has on both sides; 1 without problems.

    It follows from the numbers of samples alone, never from what they are.
    """
    sizes_P = [side.there_PK.sum(axis=1) for side in pair]
    # Problems that the round lacks are no reason for a smaller block.
    least_P = np.minimum(*sizes_P)[sizes_P[1] > 0]
    return max(int(np.quantile(least_P, 1 - share, method="lower")), 1) if len(least_P) else 1


def usual_block(pair: Pair) -> int:
    """Samples of a block that is the better the larger: at least two, `VOTE_SIZE` at most.

    As many as half of the problems have: few with more or with fewer samples change nothing.
    """
    return max(min(largest_block(pair, 0.5), VOTE_SIZE), 2)


@lru_cache(maxsize=64)
def cuts(num: int, size: int) -> Ints:
    """Ways to cut `num` columns into disjoint blocks of `size`: shape (R, M, S), M = num // size.

    The same for every problem. size 1: the one way. size 2 and num even: rounds of a tournament, so
    that every pair occurs exactly once (at most `MOST_CUTS` rounds). Else `MOST_CUTS` random ways,
    fixed once and for all.
    """
    if size == 1:
        return np.arange(num, dtype=np.int64).reshape(1, num, 1)
    if size == 2 and num % 2 == 0:
        # The circle method: column 0 stays, the others move on by one place a round.
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


def block_scores(
    rows: Table,
    size: int,
    score: BlockScore,
) -> Floats:
    """The score of every block of every cut, shape (P, R, M); NaN where there is none.

    M = 0 where there is not one block: no problems, or too few columns. Then `score` is not asked.
    """
    num_problems, num_columns = rows.there_PK.shape
    if not num_problems or num_columns < size:
        return np.full((num_problems, 1, 0), np.nan)
    if rows.there_PK.all():
        return score(rows, cuts(num_columns, size))
    if size == 1:
        return np.where(rows.there_PK[:, None], score(rows, cuts(num_columns, size)), np.nan)
    return _by_number(rows, size, score)


def _by_number(rows: Table, size: int, score: BlockScore) -> Floats:
    """`block_scores` of problems with unequal numbers of samples, each cut by its own number.

    Cut as the widest of them, hardly a block of the others would be without padding: of 8 samples
    among 16 columns 1 in 12,870 blocks of eight.
    """
    rows = rows.from_the_left()
    num_P = rows.there_PK.sum(axis=1)
    numbers = [int(num) for num in np.unique(num_P) if num >= size]
    most_cuts = max((len(cuts(num, size)) for num in numbers), default=1)
    out_PRM = np.full((len(num_P), most_cuts, max(numbers, default=0) // size), np.nan)
    for num in numbers:
        chosen_P = num_P == num
        # Of all problems, for a score may know which row is whose.
        value_PRM = score(rows, cuts(num, size))[chosen_P]
        out_PRM[chosen_P, : value_PRM.shape[1], : value_PRM.shape[2]] = value_PRM
    return out_PRM


def problem_means(block_PRM: Floats) -> Floats:
    """Mean over a problem's blocks; NaN without any."""
    known = np.isfinite(block_PRM)
    num_P = known.sum(axis=(1, 2))
    sum_P = np.where(known, block_PRM, 0.0).sum(axis=(1, 2))
    return np.where(num_P > 0, sum_P / np.maximum(num_P, 1), np.nan)


class ScoreError(ValueError):
    """A guarded quantity gives scores that nothing can be bet on."""


def check_scores(name: str, *sides: Floats) -> None:
    """Refuse scores on which no bet is fair; NaN is none.

    A score beyond the ends may lose a bet more than there is: then the evidence of all quantities
    together would be NaN, which reaches no limit.

    Args:
        name: the quantity.
        sides: scores of the baseline and of the round.

    Raises:
        ScoreError: one lies outside [0, 1].
    """
    least = min(float(np.fmin.reduce(x, axis=None, initial=np.inf)) for x in sides)
    most = max(float(np.fmax.reduce(x, axis=None, initial=-np.inf)) for x in sides)
    if least < 0 or most > 1:
        raise ScoreError(
            f"guarded quantity {name!r}: got block scores from {least:g} to {most:g}; expected"
            " scores in [0, 1]. Scale them, and let `shown` say what a reader sees."
        )


def right(rows: Table, columns_RMS: Ints) -> Floats:
    """Any of the block is right: pass@1 for size 1, pass@k for size k.

    Source: Chen et al. 2107.03374.
    """
    # Sample by sample: a table of all blocks' samples at once would be S times as large.
    samples = [rows.right_PK[:, column_RM] for column_RM in np.moveaxis(columns_RMS, -1, 0)]
    return np.asarray(np.logical_or.reduce(samples), dtype=float)


def distinct_right(rows: Table, columns_RMS: Ints) -> Floats:
    """Both of two are right and differ in strategy (none counts as one of its own).

    Its mean is the distinct-correct-pair probability.
    """
    # 0: wrong, 1: right by no strategy that has a name, from 2 on: right by a named one.
    named_PK = np.where(rows.right_PK, rows.strategy_PK + 2, 0).astype(np.int32)
    one, other = named_PK[:, columns_RMS[..., 0]], named_PK[:, columns_RMS[..., 1]]
    return np.asarray((one > 0) & (other > 0) & (one != other), dtype=float)


def ways(rows: Table, columns_RMS: Ints) -> Floats:
    """Distinct strategies among the block's right samples, per sample (no name is one of its own).

    Source: rarefied richness (Hurlbert 1971); distinct right paths (Yuan et al. 2308.01825).
    """
    # As in `distinct_right`; 0, a wrong sample, is no strategy.
    named_PK = np.where(rows.right_PK, rows.strategy_PK + 2, 0).astype(np.int32)
    code_PRMS = named_PK[:, columns_RMS]
    is_missed_PRM = (code_PRMS == 0).any(axis=-1)
    return np.asarray(distinct(code_PRMS) - is_missed_PRM / columns_RMS.shape[-1])


def ways_variance(rows: Table, size: int) -> Floats:
    """Of the mean of `ways`, (P,): see `distinct_variance`."""
    named_PK = np.where(rows.right_PK, rows.strategy_PK + 2, 0)
    return distinct_variance(named_PK, named_PK > 0, rows.there_PK.sum(axis=1), size)


def distinct(code_PRMS: NDArray[np.integer[Any]]) -> Floats:
    """Different codes of a block, per sample."""
    steps_PRM = (np.diff(np.sort(code_PRMS, axis=-1), axis=-1) > 0).sum(axis=-1)
    return np.asarray((steps_PRM + 1) / code_PRMS.shape[-1])


def calibration(rows: Table, columns_RMS: Ints) -> Floats:
    """(1 - over-confidence) / 2 of a block: 0.5 when its votes are calibrated in the mean.

    The first half votes (ties: the earliest); confidence is the winner's share in the second half,
    over-confidence is confidence - right. Unreadable answers vote for nothing; without a readable
    vote both are 0.
    """
    # Vote and confidence from different samples: from the same, confidence would be too high.
    half = columns_RMS.shape[-1] // 2
    # int32: these tables are the largest of all, and codes are small.
    answer = rows.answer_PK.astype(np.int32)[:, columns_RMS]
    first, second = answer[..., :half], answer[..., half:]
    votes = sum((first == first[..., i : i + 1]).astype(np.int8) for i in range(half))
    winner = (votes * (first >= 0)).argmax(axis=-1)[..., None]
    chosen = np.take_along_axis(first, winner, axis=-1)
    some = chosen[..., 0] >= 0
    confidence = (second == chosen).mean(axis=-1) * some
    right_first = rows.right_PK[:, columns_RMS[..., :half]]
    correct = np.take_along_axis(right_first, winner, axis=-1)[..., 0] & some
    return np.asarray((1 - (confidence - correct)) / 2, dtype=float)


def not_wrongly(code: int) -> BlockScore:
    """1 unless the single sample gives this answer and is wrong; it was picked on other samples."""

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        another = rows.answer_PK[:, columns_RMS] != code
        fine = another | rows.right_PK[:, columns_RMS]
        return np.asarray(fine.all(axis=-1), dtype=float)

    return score


def most_grown_answer(pair: Pair) -> int:
    """Code of the wrong answer whose share lies furthest above the baseline's.

    It is -2 (nobody's) without readable ones. Right answers repeat too, where problems share them,
    and the more the better a model gets: they are no shortcut.
    """
    if not pair.now.labels:
        return -2
    return int(np.argmax(pair.now.wrong_share - pair.baseline.wrong_share))


def rare_right(rare_PT: Bools) -> BlockScore:
    """The single sample is right by a strategy that is marked as rare for its problem.

    Args:
        rare_PT: the marks (T codes), made on other samples.
    """

    def score(rows: Table, columns_RMS: Ints) -> Floats:
        named = rows.strategy_PK[:, columns_RMS[..., 0]]
        index_P = np.arange(len(named))[:, None, None]
        # Code -1 reads the last column of the marks, so "named" must be asked too.
        is_rare = (named >= 0) & rare_PT[index_P, named]
        return np.asarray(rows.right_PK[:, columns_RMS[..., 0]] & is_rare, dtype=float)

    return score


def rare_strategies(
    chosen: Table,
    family_P: Ints,
    num_strategies: int,
) -> Bools:
    """Which strategies are rare but alive for each problem, (P, T).

    "right and this strategy" has a frequency in (0, MOST_RARE] among `chosen`. Frequencies are the
    problem's own where every problem has 1 / MOST_RARE samples or more, else its family's.
    """
    size_P = chosen.there_PK.sum(axis=1)
    unit_P = family_P
    # With fewer samples than 1 / MOST_RARE, one hit is already more than that of them.
    if len(size_P) and size_P.min() >= 1 / MOST_RARE:
        unit_P = np.arange(len(size_P))
    hit_PK = chosen.right_PK & (chosen.strategy_PK >= 0) & chosen.there_PK
    shape = (int(unit_P.max(initial=-1)) + 1, max(num_strategies, 1))
    cell_N = np.repeat(unit_P, hit_PK.sum(axis=1)) * shape[1] + chosen.strategy_PK[hit_PK]
    count_UT = np.bincount(cell_N, minlength=shape[0] * shape[1]).reshape(shape)
    # Samples of each unit, a problem or a family.
    size_U = np.bincount(unit_P, weights=size_P, minlength=len(count_UT))
    # 1e-9: a frequency of exactly MOST_RARE is rare, whatever rounding does to it.
    is_rare_UT = (count_UT > 0) & (count_UT <= MOST_RARE * size_U[:, None] + 1e-9)
    return np.asarray(is_rare_UT[unit_P], dtype=bool)
