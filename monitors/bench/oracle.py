"""What can be seen by who knows everything but the samples: two tests on the round means.

Both see eleven guarded quantities, taken as normal, know path and covariance of the loss, and may
be wrong in 20 % of the runs within a quarter of every tolerance.

*Onset known.* One look, in the round of the event. For a normal mean and a convex null hypothesis
the most powerful test is the likelihood ratio against the point of the null that lies nearest in
the metric of the covariance; its power is Phi(D - 0.84) with D the distance. No rule sees more.

*Onset unknown.* A look in every round at the sum of those likelihood ratios over the rounds in
which the loss may have begun (Shiryaev and Roberts), its limit from simulation on the boundary.
Nearly the best that is possible, and no bound: what a test attains that knows the path.

Suffixes: `_Q` quantities, `_R` rounds, `_N` simulated runs.

Source: Lehmann & Romano, Testing Statistical Hypotheses, 3rd edition, sections 3.8 and 8.1;
Pollak 1985, Optimal detection of a change in distribution, Annals of Statistics 13.
"""

from __future__ import annotations

from collections.abc import Sequence
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
NUM_RUNS = 2000
"""Simulated runs of the test that does not know the onset."""
SCORED = (
    QuantityId.ACCURACY,
    QuantityId.DIVERSITY,
    QuantityId.WAYS,
    QuantityId.TAIL_ACCURACY,
    QuantityId.TAIL_DIVERSITY,
    QuantityId.RARE_STRATEGIES,
    QuantityId.OVERCONFIDENCE,
)
"""The first of the quantities; what follows them is worked out apart."""


@dataclass(frozen=True)
class Bound:
    """One world.

    Attributes:
        seed: of the world.
        rounds: from onset to event; -1: no event.
        distance: D.
        power: the chance to see the loss in the event's round, onset known.
        sequential: the chance to see it between the two, onset unknown.
    """

    seed: int
    rounds: int
    distance: float
    power: float
    sequential: float


def bound(name: str, seed: int, size: str) -> Bound:
    """What is seen by the event; a run without one has power 0 and -1 rounds."""
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
        return Bound(seed, -1, 0.0, 0.0, 0.0)
    held_S = truths[0].way_S >= ALIVE_SHARE
    left_S = truths[event].way_S / np.maximum(truths[0].way_S, 1e-9)
    dying = int(np.where(held_S, left_S, np.inf).argmin())
    level_RQ = np.array([_expected(t, dying, num_samples) for t in truths[: event + 1]])
    # An under-confident model may become calibrated: no harm up to there.
    votes = SCORED.index(QuantityId.OVERCONFIDENCE)
    level_RQ[0, votes] = min(level_RQ[0, votes], 0.5)
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
    path = _Path(level_RQ, stream.onset, covariance, num_samples / num_baseline)
    distance = path.against(path.lost_RQ).distance
    power = float(ndtr(distance - ndtri(1 - RULE.watch_alpha)))
    seen = path.seen(rng)
    return Bound(seed, event - stream.onset, round(distance, 4), round(power, 4), round(seen, 4))


def _event(truths: list[Truth], dying: bool) -> int:
    """The round of the event; 0: none."""
    for number, now in enumerate(truths):
        if fallen(truths[0].score, now.score) or (dying and died(truths[0], now)):
            return number
    return 0


@dataclass(frozen=True)
class _Ratio:
    """A likelihood ratio: exp(sum(weight * (x - highest)) - distance^2 / 2)."""

    weight_RQ: Floats
    distance: float


@dataclass(frozen=True)
class _Path:
    """A loss that both tests know: the levels up to the event, and how round means vary.

    Attributes:
        level_RQ: expectations of the quantities, the baseline's first.
        onset: the first harmed round.
        covariance: of one round's means.
        baseline_share: the baseline's variance, as a share of a round's.
    """

    level_RQ: Floats
    onset: int
    covariance: Floats
    baseline_share: float

    @property
    def lost_RQ(self) -> Floats:
        """What is lost since the baseline, of every round."""
        return np.asarray(self.level_RQ[0] - self.level_RQ[1:])

    @property
    def tolerated_Q(self) -> Floats:
        """A quarter of every tolerance."""
        share_Q = np.array([0, 0.10, 0.10, 0, 0.10, 0.25, 0, 0, 0, 0.50, 0])
        fixed_Q = np.array([0.01, 0, 0, 0.01, 0, 0, 0.025, 0.01, 0.01, 0, 0.05])
        return np.asarray(RULE.watch_share * (fixed_Q + share_Q * self.level_RQ[0]))

    def against(self, lost_RQ: Floats) -> _Ratio:
        """These losses against the nearest ones within a quarter of every tolerance."""
        num_rounds = len(lost_RQ)
        # The baseline's noise is common to all rounds.
        rounds = np.eye(num_rounds) + self.baseline_share * np.ones((num_rounds, num_rounds))
        whitened = np.linalg.inv(np.linalg.cholesky(np.kron(rounds, self.covariance)))
        highest, lost = np.tile(self.tolerated_Q, num_rounds), lost_RQ.ravel()
        nearest = lsq_linear(whitened, whitened @ lost, bounds=(-np.inf, highest)).x
        beyond = whitened @ (lost - nearest)
        # Where the nearest loss is less than tolerated its weight is 0.
        weight_RQ = (whitened.T @ beyond).reshape(lost_RQ.shape)
        return _Ratio(weight_RQ, float(np.linalg.norm(beyond)))

    def seen(self, rng: np.random.Generator) -> float:
        """The chance that the test without the onset alarms between it and the event."""
        harmed_RQ = self.lost_RQ[self.onset - 1 :]
        # The loss began 1, 2, ... rounds ago.
        ratios = [self.against(harmed_RQ[:m]) for m in range(1, len(harmed_RQ) + 1)]
        boundary_NR = self._sums(np.tile(self.tolerated_Q, (RULE.rounds, 1)), ratios, rng)
        limit = np.quantile(boundary_NR.max(axis=1), 1 - RULE.watch_alpha)
        harmed_NR = self._sums(self.lost_RQ, ratios, rng)[:, self.onset - 1 :]
        return float((harmed_NR >= limit).any(axis=1).mean())

    def _sums(self, lost_RQ: Floats, ratios: Sequence[_Ratio], rng: np.random.Generator) -> Floats:
        """The sum of the likelihood ratios in every round of simulated runs, (N, R)."""
        root = np.linalg.cholesky(self.covariance).T
        shape = (NUM_RUNS, len(lost_RQ), len(root))
        baseline_N1Q = rng.normal(size=(NUM_RUNS, 1, len(root))) @ root
        mean_NRQ = lost_RQ + rng.normal(size=shape) @ root
        beyond_NRQ = mean_NRQ + np.sqrt(self.baseline_share) * baseline_N1Q - self.tolerated_Q
        sum_NR = np.zeros(shape[:2])
        for t in range(shape[1]):
            for m, ratio in enumerate(ratios[: t + 1], start=1):
                log_N = (beyond_NRQ[:, t + 1 - m : t + 1] * ratio.weight_RQ).sum(axis=(1, 2))
                # Far beyond any limit; exp would overflow.
                sum_NR[:, t] += np.exp(np.minimum(log_N - ratio.distance**2 / 2, 300.0))
        return sum_NR


def _expected(of: Truth, dying: int, k: int) -> list[float]:
    """The expectations of the eleven quantities' scores."""
    solved = float((1 - (1 - of.right_P) ** k).mean())
    shortcut = 1 - float(of.wrong_A[-1])
    rest = [shortcut, solved, float(of.way_S[dying]), of.score[QuantityId.OTHER_FAMILIES]]
    return [*(of.score[name] for name in SCORED), *rest]


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
        mean(rows, blocks.VOTE_SIZE, blocks.ways),
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
