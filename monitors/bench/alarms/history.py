"""What a detector may see: the samples of the rounds so far, the baseline first.

Suffixes: `_P` problems, `_K` samples of a problem, `_S` strategies, `_N` rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.columns import codes
from ouroloop.monitors.decision.blocks import VOTE_SIZE
from ouroloop.monitors.decision.tables import Pair, Table, Tables, all_judged, places, shuffled
from ouroloop.monitors.estimators.ustatistics import pass_at_k

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAIN = "main"
"""The family that is practised; all others are counted together."""
OTHER = "other"
"""What a simulated run calls those."""
TAIL = "tail"
# Four of eight samples: with more, a tail problem is nearly always solved.
PASS_K = 4


@dataclass(frozen=True, eq=False)
class Round:
    """The scored samples of one round; rows are the baseline's problems, in its order.

    Attributes:
        main: of the main family; codes of strategies and answers are common to all rounds.
        others: of all other families, or None.
        tail_P: rows of `main` in the tail slice.
    """

    main: Table
    others: Table | None
    tail_P: Ints

    @cached_property
    def num_P(self) -> Ints:
        """Samples of each problem."""
        return np.asarray(self.main.there_PK.sum(axis=1))

    @cached_property
    def right_P(self) -> Floats:
        """Share of right samples; NaN without samples."""
        right_P = (self.main.right_PK & self.main.there_PK).sum(axis=1)
        return _over(right_P, self.num_P)

    @cached_property
    def tail_solved_P(self) -> Floats:
        """Unbiased pass@4 of the tail's problems; NaN with fewer samples."""
        num_P = self.num_P[self.tail_P]
        # Wrong samples, and not right ones: with four of them drawn, a miss is easily counted.
        wrong_P = num_P - (self.main.right_PK & self.main.there_PK)[self.tail_P].sum(axis=1)
        miss_P = np.ones(len(self.tail_P))
        for taken in range(PASS_K):
            miss_P *= _over(np.clip(wrong_P - taken, 0, None), num_P - taken)
        return np.where(num_P >= PASS_K, 1 - miss_P, np.nan)

    @cached_property
    def right_PS(self) -> Ints:
        """Right samples by strategy; a sample without one is in no column."""
        return self._counts(self.main.there_PK & self.main.right_PK)

    @cached_property
    def all_PS(self) -> Ints:
        """All samples by strategy."""
        return self._counts(self.main.there_PK)

    @cached_property
    def pairs_P(self) -> Floats:
        """Share of pairs of samples that are both right, by different strategies (DCP)."""
        # Samples without a strategy are in no pair: whether they differ is not known.
        right_P = self.right_PS.sum(axis=1)
        same_P = (self.right_PS * (self.right_PS - 1)).sum(axis=1)
        return _over(right_P * (right_P - 1) - same_P, self.num_P * (self.num_P - 1))

    @cached_property
    def ways_P(self) -> Floats:
        """Strategies expected among the right ones of eight samples; NaN with fewer samples."""
        num_PS = np.broadcast_to(self.num_P[:, None].astype(float), self.right_PS.shape)
        seen_N = pass_at_k(self.right_PS.ravel().astype(float), num_PS.ravel(), VOTE_SIZE)
        return np.asarray(seen_N.reshape(num_PS.shape).sum(axis=1))

    @cached_property
    def others_P(self) -> Floats:
        """Share of right samples of the other families' problems."""
        if self.others is None:
            return np.empty(0)
        right_P = (self.others.right_PK & self.others.there_PK).sum(axis=1)
        return _over(right_P, self.others.there_PK.sum(axis=1))

    def entropy_P(self, num_samples: int) -> Floats:
        """Plug-in entropy of the strategies, nats, the mean over groups of so many samples.

        A plug-in entropy must not be compared with one of more samples.
        """
        width = self.main.there_PK.shape[1]
        # The last group would be smaller, and its plug-in entropy too low: it is left out.
        groups = range(0, max(width - num_samples + 1, 1), max(num_samples, 1))
        found = []
        for first in groups:
            there_PK = np.zeros_like(self.main.there_PK)
            there_PK[:, first : first + num_samples] = True
            count_PS = self._counts(self.main.there_PK & there_PK)
            share_PS = _over(count_PS, count_PS.sum(axis=1, keepdims=True))
            # Without samples there is no entropy; a share of 0 counts as 0.
            log_PS = np.log(np.where(share_PS > 0, share_PS, 1.0))
            found.append(-(share_PS * log_PS).sum(axis=1))
        return np.asarray(np.mean(found, axis=0))

    def _counts(self, chosen_PK: NDArray[np.bool_]) -> Ints:
        num = max(len(self.main.legend.get("strategy", ())), 1)
        chosen_PK = chosen_PK & (self.main.strategy_PK >= 0)
        problem_N, _ = chosen_PK.nonzero()
        cell_N = problem_N * num + self.main.strategy_PK[chosen_PK]
        size = len(self.main.problems) * num
        return np.bincount(cell_N, minlength=size).reshape(len(self.main.problems), num)


def _over(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """A ratio, NaN where there is nothing to divide by."""
    whole = np.asarray(whole, dtype=float)
    return np.asarray(part / np.where(whole > 0, whole, np.nan))


@dataclass(frozen=True, eq=False)
class History:
    """The rounds so far, and how many are planned after the baseline."""

    rounds: tuple[Round, ...]
    planned: int = 20

    @property
    def baseline(self) -> Round:
        """What every later round is compared with."""
        return self.rounds[0]

    @property
    def now(self) -> Round:
        """The latest round."""
        return self.rounds[-1]

    def until(self, number: int) -> History:
        """As it was after this round; 0 is the baseline."""
        return History(self.rounds[: number + 1], self.planned)

    def tables(self) -> Tables:
        """The latest round beside the baseline, as the decision rule reads them."""
        # The simulation, and every reader of files, names all strategies in one way.
        main = Pair(self.baseline.main, self.now.main)
        others = None
        if self.baseline.others is not None and self.now.others is not None:
            others = Pair(self.baseline.others, self.now.others)
        family_P = np.zeros(len(main.baseline.problems), dtype=np.int64)
        tail_P = self.baseline.tail_P
        return Tables(main, tail_P, main, family_P, others, all_judged(main, others))


Columns = Mapping[str, NDArray[Any]]
"""`round`, `family`, `slice`, `problem`, `correct`, `strategy`, `answer`: one entry a sample."""


def history_of(columns: Columns, planned: int) -> History:
    """The samples of a run as a history; the lowest round is the baseline.

    Samples without a verdict (`correct` is None or NaN) are left out, and problems that the
    baseline does not have.
    """
    correct_N = np.array([np.nan if x is None else float(x) for x in columns["correct"]])
    # Unscored is not wrong: such samples are no evidence of anything.
    scored_N = np.isfinite(correct_N)
    known = {name: np.asarray(columns[name], dtype=object)[scored_N] for name in _NAMES}
    number_N = np.asarray(columns["round"])[scored_N]
    right_N = correct_N[scored_N] == 1
    # Over all rounds at once, or a code would change its meaning from round to round.
    strategies, strategy_N = codes(known["strategy"])
    answers, answer_N = codes(known["answer"])
    is_main_N = known["family"] == MAIN
    first = number_N == number_N.min()
    # By the baseline: a problem that comes later has nothing to be compared with.
    problems = [sorted(set(known["problem"][first & part])) for part in (is_main_N, ~is_main_N)]
    in_tail = set(known["problem"][first & (known["slice"] == TAIL)])
    tail_P = np.array([i for i, p in enumerate(problems[0]) if p in in_tail], dtype=np.int64)

    def table(chosen_N: NDArray[np.bool_], of: Sequence[str]) -> Table:
        here_N, at, shape = places(known["problem"][chosen_N], of)
        there, right = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        there[at], right[at] = True, right_N[chosen_N][here_N]
        strategy, answer = (np.full(shape, -1, dtype=np.int64) for _ in range(2))
        strategy[at] = strategy_N[chosen_N][here_N]
        answer[at] = answer_N[chosen_N][here_N]
        legend = {"strategy": tuple(strategies)}
        return shuffled(
            Table(tuple(of), there, right, strategy, answer, tuple(answers), legend=legend)
        )

    rounds = []
    for number in sorted(set(number_N.tolist())):
        now_N = number_N == number
        # A round may lack a family altogether; the baseline says whether there is one.
        others = table(now_N & ~is_main_N, problems[1]) if problems[1] else None
        rounds.append(Round(table(now_N & is_main_N, problems[0]), others, tail_P))
    return History(tuple(rounds), planned)


_NAMES = ("family", "slice", "problem", "strategy", "answer")
