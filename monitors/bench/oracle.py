"""What no rule can see: the likelihood-ratio test that knows path, onset and covariance of a loss.

It sees the round means of ten guarded quantities, taken as normal, looks once, in the round of the
event, and may be wrong in 20 % of the runs within a quarter of every tolerance. For a normal mean
and a convex null hypothesis the most powerful such test is the likelihood ratio against the point
of the null that lies nearest in the metric of the covariance; its power is Phi(D - 0.84) with D the
distance. Suffixes: `_Q` quantities, `_R` rounds.

Source: Lehmann & Romano, Testing Statistical Hypotheses, 3rd edition, sections 3.8 and 8.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear
from scipy.special import ndtr, ndtri

from ouroloop.monitors.bench import dynamics, simulate
from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.cells import Cell, Cells, slug
from ouroloop.monitors.bench.dynamics import PREJUDICED
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Floats, Probe, Stream
from ouroloop.monitors.bench.truth import Truth, died, fallen, truth
from ouroloop.monitors.decision import blocks
from ouroloop.monitors.decision.blocks import block_scores
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.patterns import ALIVE_SHARE
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Bools, Table

RULE = DecisionRule("main")
# Tuned rules have seen other seeds.
FIRST_SEED, NUM_DRAWS = 1000, 120


@dataclass(frozen=True)
class Bound:
    """One world: rounds from onset to event, the distance D, and the chance to see the loss."""

    seed: int
    rounds: int
    distance: float
    power: float


def bound(name: str, seed: int, size: str) -> Bound:
    """The oracle's power by the event; a run without one has power 0 and -1 rounds."""
    num_problems, num_samples, num_baseline = SIZES[size]
    stream = Stream(REGIMES[name], seed, num_problems, num_samples, num_baseline)
    rng = np.random.default_rng([seed, 77])
    models = list(stream.models())
    first, _ = simulate.draw(models[0], stream.world, stream.probe, num_baseline, rng)
    half = first.columns(slice(0, num_baseline // 2))
    everywhere = np.zeros(num_problems, dtype=np.int64)
    rare_PS = blocks.rare_strategies(half, everywhere, dynamics.NUM_STRATEGIES + 1)
    truths = [truth(m, stream.world, stream.probe, rare_PS, RULE.pass_k) for m in models]
    event = _event(truths, stream.regime.accept == PREJUDICED)
    if not event:
        return Bound(seed, -1, 0.0, 0.0)
    held_S = truths[0].way_S >= ALIVE_SHARE
    left_S = truths[event].way_S / np.maximum(truths[0].way_S, 1e-9)
    dying = int(np.where(held_S, left_S, np.inf).argmin())
    level_RQ = np.array([_expected(t, dying, num_samples) for t in truths[: event + 1]])
    # An under-confident model may become calibrated: no harm up to there.
    level_RQ[0, 5] = min(level_RQ[0, 5], 0.5)
    # Half of the draws from each end of the path: what is never drawn at one has a variance.
    mean_NQ = np.array(
        [
            _means(
                simulate.draw(model, stream.world, stream.probe, num_samples, rng),
                stream.probe,
                rare_PS,
                dying,
            )
            for model in (models[0], models[event])
            for _ in range(NUM_DRAWS // 2)
        ]
    )
    ends = np.split(mean_NQ, 2)
    spread_NQ = np.concatenate([end - end.mean(axis=0) for end in ends])
    covariance = np.cov(spread_NQ.T) + np.eye(mean_NQ.shape[1]) / (num_problems * num_samples) ** 2
    # The inverse of an estimated covariance is too large by this factor (Wishart).
    covariance *= (NUM_DRAWS - 1) / (NUM_DRAWS - len(covariance) - 2)
    found = _distance(level_RQ, covariance, num_samples / num_baseline)
    power = float(ndtr(found - ndtri(1 - RULE.watch_alpha)))
    return Bound(seed, event - stream.onset, round(found, 4), round(power, 4))


def _event(truths: list[Truth], dying: bool) -> int:
    """The round of the event; 0: none."""
    for number, now in enumerate(truths):
        if fallen(truths[0].score, now.score) or (dying and died(truths[0], now)):
            return number
    return 0


def _distance(level_RQ: Floats, covariance: Floats, baseline_share: float) -> float:
    """How far the path lies from "within a quarter of every tolerance", in standard errors."""
    start_Q, num_rounds = level_RQ[0], len(level_RQ) - 1
    share_Q = np.array([0, 0.10, 0, 0.10, 0.25, 0, 0, 0, 0.50, 0])
    fixed_Q = np.array([0.01, 0, 0.01, 0, 0, 0.025, 0.01, 0.01, 0, 0.05])
    tolerated_Q = RULE.watch_share * (fixed_Q + share_Q * start_Q)
    # The baseline's noise is common to all rounds.
    rounds = np.eye(num_rounds) + baseline_share * np.ones((num_rounds, num_rounds))
    whitened = np.linalg.inv(np.linalg.cholesky(np.kron(rounds, covariance)))
    lost = (start_Q - level_RQ[1:]).ravel()
    highest = np.tile(tolerated_Q, num_rounds)
    nearest = lsq_linear(whitened, whitened @ lost, bounds=(-np.inf, highest)).x
    return float(np.linalg.norm(whitened @ (lost - nearest)))


def _expected(of: Truth, dying: int, k: int) -> list[float]:
    """The expectations of the ten quantities' scores."""
    names = (
        QuantityId.ACCURACY,
        QuantityId.DIVERSITY,
        QuantityId.TAIL_ACCURACY,
        QuantityId.TAIL_DIVERSITY,
        QuantityId.RARE_STRATEGIES,
        QuantityId.OVERCONFIDENCE,
    )
    solved = float((1 - (1 - of.right_P) ** k).mean())
    shortcut = 1 - float(of.wrong_A[-1])
    rest = [shortcut, solved, float(of.way_S[dying]), of.score[QuantityId.OTHER_FAMILIES]]
    return [*(of.score[name] for name in names), *rest]


def _means(sides: tuple[Table, Table], problems: Probe, rare_PS: Bools, dying: int) -> list[float]:
    """The same quantities as a round of samples shows them."""
    rows, others = sides
    tail, num = rows.rows(problems.tail_P), rows.right_PK.shape[1]

    def mean(of: Table, size: int, score: blocks.BlockScore) -> float:
        return float(block_scores(of, min(size, num), score).mean())

    strategy_PK = np.where(rows.right_PK, rows.strategy_PK, -1)
    return [
        float(rows.right_PK.mean()),
        mean(rows, 2, blocks.distinct_right),
        mean(tail, RULE.pass_k, blocks.right),
        mean(tail, 2, blocks.distinct_right),
        mean(rows, 1, blocks.rare_right(rare_PS)),
        mean(rows, blocks.VOTE_SIZE, blocks.calibration),
        1 - float((rows.strategy_PK == dynamics.SHORTCUT).mean()),
        mean(rows, num, blocks.right),
        float((strategy_PK == dying).mean()),
        float(others.right_PK.mean()),
    ]


def cells(out: Path, runs: int, sizes: list[str], names: list[str]) -> Cells:
    """A cell for each size and collapsing regime."""
    seeds = range(FIRST_SEED, FIRST_SEED + runs)
    found: dict[Cell, Any] = {
        Cell(out / "oracle.csv", f"{size}/{slug(name)}"): (
            bound,
            [(name, seed, size) for seed in seeds],
        )
        for size in sizes
        for name in names
        if REGIMES[name].mode
    }
    return found
