"""V7: other people's rules on the same runs, each as it is used.

They are fixed thresholds, a p-value a round, and one quantity alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.cells import Cell, Cells, slug
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.decision import evidence, tiers
from ouroloop.monitors.decision.guarded import quantities
from ouroloop.monitors.decision.guards import BaselineScores, Guard
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Table, Tables
from ouroloop.monitors.names import Tier

Floats = NDArray[np.float64]

# The default rule, whose accuracy stream is one of the rules that are compared.
RULE = DecisionRule("main")
SIX = (
    "pass@1",
    "pass@4 of the tail",
    "distinct-correct pairs",
    "Gini-Simpson",
    "entropy",
    "most repeated answer",
)
# All others are worse when they fall.
UP_IS_BAD = ("most repeated answer",)
# Published monitors warn at a fall of a tenth, or test every round at 5 %.
FALL = 0.10
LEVEL = 0.05


@dataclass(frozen=True)
class Alarms:
    """Round of each rule's first alarm, 0 for never."""

    regime: str
    seed: int
    gini_simpson_falls_a_tenth: int = 0
    entropy_falls_a_tenth: int = 0
    any_of_six_below_5_percent: int = 0
    accuracy_alone: int = 0


def measured(rows: Table, tail_P: NDArray[np.int64]) -> dict[str, Floats]:
    """The six quantities, each per problem, every sample being there."""
    num = rows.there_PK.shape[1]
    shape = (len(rows.problems), int(rows.strategy_PK.max()) + 1)
    problem_PK = np.arange(shape[0])[:, None]
    cell_PK = problem_PK * shape[1] + rows.strategy_PK
    all_PS = np.bincount(cell_PK.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    right_PS = np.bincount(cell_PK[rows.right_PK], minlength=shape[0] * shape[1]).reshape(shape)
    right_P, pairs = right_PS.sum(axis=1), num * (num - 1)
    same_right_P = (right_PS * (right_PS - 1)).sum(axis=1)
    same_P = (all_PS * (all_PS - 1)).sum(axis=1)
    # log 1 where there is no sample: 0 log 0 counts as 0.
    log_PS = np.log(np.maximum(all_PS, 1) / num)
    entropy_P = -np.where(all_PS > 0, all_PS / num * log_PS, 0.0).sum(axis=1)
    miss_P = np.ones(len(tail_P))
    for j in range(4):
        miss_P = miss_P * np.clip(num - right_P[tail_P] - j, 0, None) / (num - j)
    # Of all answers, right or not: the quantity knows no gold answers.
    often = rows.answer_PK == np.bincount(rows.answer_PK.ravel()).argmax()
    return {
        "pass@1": right_P / num,
        "pass@4 of the tail": 1 - miss_P,
        "distinct-correct pairs": (right_P * (right_P - 1) - same_right_P) / pairs,
        "Gini-Simpson": 1 - same_P / pairs,
        "entropy": entropy_P,
        "most repeated answer": often.mean(axis=1),
    }


def series(
    name: str,
    seed: int,
    size: str,
) -> Iterator[tuple[int, Tables, dict[str, Floats], dict[str, Floats]]]:
    """(number, tables, this round's quantities, the baseline's) of every round after round 0.

    The baseline's are means over groups of as many samples as a round has: a plug-in entropy must
    not be compared with one of more samples.
    """
    num_problems, num_samples, num_baseline = SIZES[size]
    before: dict[str, Floats] = {}
    stream = Stream(
        regime=REGIMES[name],
        seed=seed,
        num_problems=num_problems,
        num_samples=num_samples,
        num_baseline=num_baseline,
        num_rounds=RULE.rounds,
    )
    for a_round in stream.rounds():
        baseline, now = a_round.tables.main
        if a_round.number == 0:
            groups = [
                measured(baseline.columns(slice(i, i + num_samples)), a_round.tables.tail_P)
                for i in range(0, num_baseline, num_samples)
            ]
            before = {n: np.mean([g[n] for g in groups], axis=0) for n in SIX}
        else:
            yield a_round.number, a_round.tables, measured(now, a_round.tables.tail_P), before


def worse(
    now: Mapping[str, Floats],
    before: Mapping[str, Floats],
    name: str,
) -> float:
    """One-sided p-value of a paired t-test that a quantity is no worse than before."""
    difference_P = (before[name] - now[name]) * (-1 if name in UP_IS_BAD else 1)
    spread = float(difference_P.std(ddof=1))
    num = len(difference_P)
    if spread == 0:
        return 1.0
    t = difference_P.mean() / spread * np.sqrt(num)
    return float(stdtr(num - 1, -t))


def run(name: str, seed: int, size: str) -> Alarms:
    """One run under every rule."""
    found: dict[str, int] = {}
    rounds: list[dict[str, tuple[float, ...]]] = []
    scores: BaselineScores | None = None
    for number, tables, now, before in series(name, seed, size):
        quantity = next(quantities(tables, RULE))
        scores = scores or quantity.baseline_scores()
        guard = quantity.guard(scores)
        assert isinstance(guard, Guard)
        growth_CB = evidence.loss_factors(guard.stream, RULE.watch_share)
        # One stream alone needs no share of the evidence.
        rounds.append({quantity.name: tiers.flat(growth_CB)})
        log_e = evidence.weigh(rounds, RULE.rounds, log_pay_C=tiers.pay(Tier.WATCH)).log_e
        fires = {
            "gini_simpson_falls_a_tenth": _falls(now, before, "Gini-Simpson"),
            "entropy_falls_a_tenth": _falls(now, before, "entropy"),
            "any_of_six_below_5_percent": min(worse(now, before, n) for n in SIX) < LEVEL,
            "accuracy_alone": log_e >= tiers.limit(Tier.WATCH, RULE.watch_alpha),
        }
        # What was found before stays: the first alarm counts.
        found = {rule: number for rule, fired in fires.items() if fired} | found
    return Alarms(name, seed, **found)


def _falls(
    now: Mapping[str, Floats],
    before: Mapping[str, Floats],
    name: str,
) -> bool:
    return bool(now[name].mean() < (1 - FALL) * before[name].mean())


def cells(
    out: Path,
    runs: int,
    size: str = "500x16",
) -> Cells:
    """A cell for each regime."""
    return {
        Cell(out / "v7.csv", f"{size}/{slug(name)}"): (
            run,
            [(name, seed, size) for seed in range(runs)],
        )
        for name in REGIMES
    }
