"""What the decision rule can see.

How large a loss must be before it is noticed, by simulation through the rule's own evidence.

A population of samples (an anchor's own, or a typical model's) is drawn from anew for the anchor
and for every round, one quantity is harmed, and `guarded.quantities` and `evidence.loss_factors` do
what they do in a run. Each quantity must reach the limit alone (the others are taken to bring
nothing), with the loss there from the first round on. The bets' growth over a round is a sum over
problems: its mean and its spreads (within and between anchors) are measured on `NUM_ANCHORS` x
`NUM_ROUNDS` rounds, and runs are drawn from the normal law with these.

Suffixes as in `blocks.py`; `_B` bets, `_N` runs, `_R` rounds of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.blocks import block_scores
from ouroloop.monitors.decision.guarded import VOTES, Tables
from ouroloop.monitors.decision.guards import Guard, Quantity
from ouroloop.monitors.decision.populations import SEED, Design, Population, drawn, harmed
from ouroloop.monitors.decision.rule import DecisionRule

WITHIN = (1, 3, 10)
"""Rounds within which a loss that persists is to be noticed."""
CHANCES = (0.80, 0.95)
NUM_ANCHORS, NUM_ROUNDS, NUM_RUNS = 20, 2, 2000
HARM_L = np.geomspace(0.005, 1.0, 33)
"""Levels of harm; those between two at which everything is equally (un)likely are left out."""


@dataclass(frozen=True)
class Power:
    """What can be seen of one quantity. base: its value at the anchor.

    Tolerance, losses: in the unit shown, shares of `base` if `relative`.

    smallest: (tier, rounds, chance) -> the least loss noticed with that chance within so many
    rounds; None: not even `most`, the largest that there is. why: why nothing can be said.
    """

    name: str
    base: float = float("nan")
    tolerance: float = float("nan")
    relative: bool = False
    most: float = float("nan")
    smallest: Mapping[tuple[str, int, float], float | None] = field(default_factory=dict)
    why: str = ""


class Growth(NamedTuple):
    """Log growth of the bets over rounds at one level of harm.

    Mean_B, covariance between anchors and within one.
    """

    mean: Floats
    between: Floats
    within: Floats


def power(panel: DecisionRule, population: Population, design: Design) -> list[Power]:
    """What each guarded quantity can show under this design; deterministic."""
    runs = [
        drawn(
            population,
            design,
            np.random.default_rng((SEED, a)),
            [np.random.default_rng((SEED, a, r)) for r in range(NUM_ROUNDS)],
        )
        for a in range(NUM_ANCHORS)
    ]
    guards = {q.name: q.guard() for q in guarded.quantities(runs[0][0], panel)}
    measured = [g for g in guards.values() if isinstance(g, Guard)]
    num_streams = panel.planned(measured)
    share = evidence.shares([g.name for g in measured], num_streams, guarded.FIRST)
    out = []
    for name, guard in guards.items():
        if isinstance(guard, Guard):
            out.append(_of_one(name, panel, population, runs, design, num_streams, share[name]))
        else:
            out.append(
                Power(
                    name,
                    why=(
                        guard
                        if isinstance(guard, str)
                        else "too few samples per problem in a round"
                    ),
                )
            )
    return out


def _find(tables: Tables, panel: DecisionRule, name: str) -> Quantity:
    return next(q for q in guarded.quantities(tables, panel) if q.name == name)


def _of_one(
    name: str,
    panel: DecisionRule,
    population: Population,
    runs: Sequence[Sequence[Tables]],
    design: Design,
    num_streams: int,
    share: float,
) -> Power:
    """Try levels of harm, close together where the chances of being noticed change."""
    tiers = {
        "watch": (panel.watch_share, panel.watch_alpha),
        "halt": (1.0, evidence.spent(panel.alpha, 1)),
    }
    chances: dict[int, dict[tuple[str, int], float]] = {}

    def try_level(level: int) -> dict[tuple[str, int], float]:
        if level not in chances:
            chances[level] = {}
            for tier, growth in _growth(
                name, panel, population, runs, float(HARM_L[level]), num_streams, tiers
            ).items():
                chance_R = noticed(
                    growth, evidence.log_limit(tiers[tier][1]) - float(np.log(share)), panel.rounds
                )
                chances[level] |= {
                    (tier, within): float(chance_R[min(within, panel.rounds) - 1])
                    for within in WITHIN
                }
        return chances[level]

    def between(low: int, high: int) -> None:
        before, after = try_level(low), try_level(high)
        if high - low > 1 and max(abs(after[key] - before[key]) for key in after) > 0.1:
            between(low, (low + high) // 2)
            between((low + high) // 2, high)

    large = _large(population, design)
    if (
        _find(large, panel, name).relative
        and not _loss(name, panel, population, large, design, 0.0)[0]
    ):
        return Power(name, why="there is hardly any at the anchor")
    between(0, len(HARM_L) - 1)
    levels = sorted(chances)
    both = [_loss(name, panel, population, large, design, float(HARM_L[level])) for level in levels]
    losses, quantity = [loss for _, loss in both], _find(large, panel, name)
    smallest = {
        (*key, chance): _reach(losses, [chances[i][key] for i in levels], chance)
        for key in chances[0]
        for chance in CHANCES
    }
    return Power(name, both[0][0], quantity.tolerance, quantity.relative, max(losses), smallest)


def _large(population: Population, design: Design) -> Tables:
    """Every problem of the population with many samples.

    What harm does to it is then known well.
    """
    others = 0 if population.others is None else len(population.others.problems)
    many = replace(
        design,
        num_problems=len(population.main.problems),
        num_samples=128,
        num_anchor=128,
        num_others=others,
    )
    return drawn(population, many, np.random.default_rng(SEED), [np.random.default_rng((SEED, 1))])[
        0
    ]


def _loss(
    name: str,
    panel: DecisionRule,
    population: Population,
    large: Tables,
    design: Design,
    harm: float,
) -> tuple[float, float]:
    """(value at the anchor as shown, loss as shown) in the population itself.

    Many samples, the same ones with and without the harm.
    """
    hurt = _find(harmed(large, population, name, harm, np.random.default_rng(SEED)), panel, name)
    size = min(hurt.size, design.num_samples, design.num_anchor) if name == VOTES else hurt.size
    before, after = (
        float(np.nanmean(block_scores(rows, size, hurt.score)))
        for rows in (_find(large, panel, name).now, hurt.now)
    )
    start = before if hurt.ceiling is None else min(before, hurt.ceiling)
    return hurt.shown[0] + hurt.shown[1] * start, (
        (start - after) / max(start, 1e-12)
        if hurt.relative
        else (start - after) * abs(hurt.shown[1])
    )


def _growth(
    name: str,
    panel: DecisionRule,
    population: Population,
    runs: Sequence[Sequence[Tables]],
    harm: float,
    num_streams: int,
    tiers: Mapping[str, tuple[float, float]],
) -> dict[str, Growth]:
    """Harm the rounds of several anchors and pass them through the rule's own bets."""
    found: dict[str, list[Floats]] = {tier: [] for tier in tiers}
    for a, rounds in enumerate(runs):
        hurt = (
            harmed(tables, population, name, harm, np.random.default_rng((SEED, a, r, 2)))
            for r, tables in enumerate(rounds)
        )
        guards = [
            guard
            for tables in hurt
            if isinstance(guard := _find(tables, panel, name).guard(), Guard)
        ]
        for tier, (share, alpha) in tiers.items():
            z = evidence.anchor_z(alpha, num_streams)
            found[tier].append(
                np.array([evidence.loss_factors(guard.stream, share, z) for guard in guards])
            )
    return {
        tier: _spreads([logs_RB for logs_RB in logs if len(logs_RB) > 1])
        for tier, logs in found.items()
    }


def _spreads(by_anchor: list[Floats]) -> Growth:
    """Mean and covariances of (rounds, bets) arrays, one per anchor."""
    mean_AB = np.array([logs.mean(axis=0) for logs in by_anchor])
    within = np.mean([np.cov(logs.T) for logs in by_anchor], axis=0)
    return Growth(mean_AB.mean(axis=0), np.cov(mean_AB.T) - within / NUM_ROUNDS, within)


def noticed(growth: Growth, log_limit: float, horizon: int) -> Floats:
    """Probability that the evidence has reached the limit by round 1, 2, ....

    The loss is there from round 1. As `evidence.weigh` mixes.
    """
    rng = np.random.default_rng(SEED)
    num_rounds = min(max(WITHIN), horizon)
    anchor_NB, round_NRB = (
        _normal(rng, cov, shape)
        for cov, shape in ((growth.between, (NUM_RUNS,)), (growth.within, (NUM_RUNS, num_rounds)))
    )
    log_e_NR = mixed(growth.mean + anchor_NB[:, None] + round_NRB, horizon)
    return np.asarray(
        (np.maximum.accumulate(log_e_NR, axis=1) >= log_limit).mean(axis=0), dtype=float
    )


def mixed(growth_NRB: Floats, horizon: int) -> Floats:
    """Logarithm of E after each round, (N, R), from each round's log growth.

    `evidence.weigh` for many runs of one stream at once.

    Per bet, sum_{j <= t} exp(L_j + ... + L_t) = exp(L_t) (1 + the same of t - 1).
    """
    sum_NB, out = np.full(growth_NRB[:, 0].shape, -np.inf), []
    for t in range(growth_NRB.shape[1]):
        sum_NB = growth_NRB[:, t] + np.logaddexp(sum_NB, 0.0)
        started_N = np.logaddexp.reduce(sum_NB, axis=1) - np.log(sum_NB.shape[1])
        left = max(horizon, growth_NRB.shape[1]) - t - 1
        out.append(
            np.logaddexp(started_N, np.log(left) if left else -np.inf)
            - np.log(max(horizon, growth_NRB.shape[1]))
        )
    return np.stack(out, axis=1)


def _normal(rng: np.random.Generator, covariance: Floats, shape: tuple[int, ...]) -> Floats:
    """Normal draws; negative eigenvalues of an estimated covariance count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(
        rng.standard_normal((*shape, len(values))) * np.sqrt(np.maximum(values, 0)) @ vectors.T,
        dtype=float,
    )


def _reach(losses: list[float], chances: list[float], wanted: float) -> float | None:
    """The least loss with this chance, between simulated ones by their logarithm.

    None beyond the last.
    """
    rising = np.maximum.accumulate(chances)
    if rising[-1] < wanted:
        return None
    i = int(np.argmax(rising >= wanted))
    if i == 0 or losses[i - 1] <= 0 or losses[i] <= losses[i - 1]:
        return losses[i]
    part = (wanted - rising[i - 1]) / (rising[i] - rising[i - 1])
    return float(np.exp(np.log(losses[i - 1]) + part * (np.log(losses[i]) - np.log(losses[i - 1]))))
