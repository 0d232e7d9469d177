"""What is exactly true of a simulated stream, in the units of the guarded quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ouroloop.monitors.bench import dynamics, simulate
from ouroloop.monitors.bench.dynamics import Model, World
from ouroloop.monitors.bench.simulate import Probe
from ouroloop.monitors.decision.blocks import VOTE_SIZE
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.guards import Quantity
from ouroloop.monitors.decision.patterns import ALIVE_SHARE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Two points: twice the tolerance of pass@1.
EVENT = 0.02
"""A fall of pass@1 or of the tail's pass@k that counts as the collapse having happened."""
EVENT_SHARE, DEATH_SHARE = 0.25, 0.75
"""Shares of DCP, and of a strategy's right samples, whose loss counts likewise."""


@lru_cache(maxsize=4)
def _votes(num_answers: int, num_voters: int = 4) -> tuple[Ints, Floats]:
    """All counts of votes over the answers, (V, A), and the log number of ways to each, (V,)."""
    chosen = list(combinations_with_replacement(range(num_answers), num_voters))
    # Four votes of five answers have 70 outcomes: few enough to sum over.
    count_VA = np.array([np.bincount(c, minlength=num_answers) for c in chosen])
    return count_VA, gammaln(num_voters + 1) - gammaln(count_VA + 1).sum(axis=1)


def calibration(answer_PA: Floats) -> Floats:
    """Expectation of `blocks.calibration` for blocks of eight.

    It is taken over all outcomes of four votes, ties broken evenly.
    """
    count_VA, ways_V = _votes(answer_PA.shape[1])
    # 1e-300: an answer of probability 0 has a logarithm, and still no chance.
    chance_PV = np.exp(np.log(np.maximum(answer_PA, 1e-300)) @ count_VA.T + ways_V)
    winner_VA = count_VA == count_VA.max(axis=1, keepdims=True)
    winner_VA = winner_VA / winner_VA.sum(axis=1, keepdims=True)
    wins_PA = chance_PV @ winner_VA
    # Confidence less truth of each answer, where it wins; answer 0 is the right one.
    gap_PA = answer_PA - (np.arange(answer_PA.shape[1]) == 0)
    over_P = (wins_PA * gap_PA).sum(axis=1)
    return np.asarray((1 - over_P) / 2)


@dataclass(frozen=True)
class Truth:
    """Expectations under one model.

    Attributes:
        score: id of a guarded quantity -> mean block score.
        wrong_A: share of each wrong answer over all problems.
        gini_simpson: of all samples' strategies, the mean over problems.
        entropy: likewise, nats.
        right_P: P(right) of each problem.
        way_S: P(right, by this strategy), the mean over problems.
    """

    score: Mapping[str, float]
    wrong_A: Floats
    gini_simpson: float
    entropy: float
    right_P: Floats
    way_S: Floats

    def shown(self, quantity: Quantity) -> float:
        """In the unit that a reader sees."""
        return quantity.as_shown(self.score[quantity.stream.quantity])


def truth(
    model: Model,
    the: World,
    problems: Probe,
    rare_PS: NDArray[np.bool_],
    pass_k: int,
) -> Truth:
    """All of it.

    Args:
        model: the model.
        the: its world.
        problems: the probe set.
        rare_PS: which strategies were rare at the baseline; one beyond its columns was not.
        pass_k: k of the tail's pass@k.
    """
    share_PS, right_PS = simulate.cells(model, the, problems)
    hit_PS = share_PS * right_PS
    right_P = hit_PS.sum(axis=1)
    pairs_P = right_P**2 - (hit_PS**2).sum(axis=1)
    miss_P = (1 - right_P) ** pass_k
    answer_PA = dynamics.answers(share_PS, right_PS)
    tail_P = problems.tail_P
    score: dict[str, Floats] = {
        QuantityId.ACCURACY: right_P,
        QuantityId.DIVERSITY: pairs_P,
        QuantityId.WAYS: (1 - (1 - hit_PS) ** VOTE_SIZE).sum(axis=1) / VOTE_SIZE,
        QuantityId.TAIL_ACCURACY: 1 - miss_P[tail_P],
        QuantityId.TAIL_DIVERSITY: pairs_P[tail_P],
        QuantityId.RARE_STRATEGIES: (hit_PS[:, : rare_PS.shape[1]] * rare_PS).sum(axis=1),
        QuantityId.OVERCONFIDENCE: calibration(answer_PA),
        QuantityId.OTHER_FAMILIES: model.general * problems.other_P,
        QuantityId.UNSCORED: np.array([model.scored]),
    }
    # Wrong answers are a problem's own, but for the shortcut's, which all problems share.
    wrong_PA = np.where(np.arange(answer_PA.shape[1]) == 0, 0.0, answer_PA)
    wrong_A = np.append(wrong_PA[:, :-1].ravel() / len(right_P), wrong_PA[:, -1].mean())
    spread = float((1 - (share_PS**2).sum(axis=1)).mean())
    entropy = float(-(share_PS * np.log(np.maximum(share_PS, 1e-300))).sum(axis=1).mean())
    return Truth(
        {name: float(x.mean()) for name, x in score.items()},
        wrong_A,
        spread,
        entropy,
        right_P,
        hit_PS.mean(axis=0),
    )


def losses(
    baseline: Truth,
    now: Truth,
    quantities: Sequence[Quantity],
) -> dict[str, float]:
    """How much of its tolerance each quantity has truly lost, by its id."""
    out = {}
    for q in quantities:
        id = q.stream.quantity
        # The answer that grew most: which one it is depends on the round.
        if id == QuantityId.SHORTCUT:
            out[id] = float((now.wrong_A - baseline.wrong_A).max()) / q.tolerance
            continue
        if id == QuantityId.ALIVE:
            held_S = baseline.way_S >= ALIVE_SHARE
            left = float((now.way_S[held_S] / baseline.way_S[held_S]).min(initial=1.0))
            out[id] = (1 - left) / q.tolerance
            continue
        before, after = (_score(side, q) for side in (baseline, now))
        if q.ceiling is not None:
            before = min(before, q.ceiling)
        # A tolerance is in the unit shown, or a share of the baseline.
        limit = q.tolerance / abs(q.shown[1])
        if q.relative:
            limit = q.tolerance * before
        out[id] = 0.0
        if limit > 0:
            out[id] = (before - after) / limit
    return out


def _score(of: Truth, quantity: Quantity) -> float:
    """The expectation of a quantity's score."""
    if quantity.stream.quantity == QuantityId.SOLVED:
        # The k of pass@k follows from the samples of a round.
        return float((1 - (1 - of.right_P) ** quantity.size).mean())
    return of.score[quantity.stream.quantity]


def fallen(before: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Whether pass@1 or the tail's pass@k lies `EVENT` below what it was, or DCP a quarter."""
    both = (QuantityId.ACCURACY, QuantityId.TAIL_ACCURACY)
    left = (1 - EVENT_SHARE) * before[QuantityId.DIVERSITY]
    return any(before[id] - now[id] >= EVENT for id in both) or now[QuantityId.DIVERSITY] <= left


def died(before: Truth, now: Truth) -> bool:
    """Whether three quarters of some strategy's right samples are gone."""
    held_S = before.way_S >= ALIVE_SHARE
    return bool((now.way_S[held_S] <= (1 - DEATH_SHARE) * before.way_S[held_S]).any())
