"""How the bets of many runs grow when every round has the same loss: normal draws of their growth.

Suffixes as in `power.py`, which measures the growth: `_B` bets of all cells, `_C` cells, `_N` runs,
`_R` rounds, `_A` baselines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision.populations import SEED

WITHIN = (1, 3, 10)
"""Rounds within which a loss that persists is to be noticed."""
# Two rounds are the fewest that separate the spread within a baseline from that between them.
NUM_ROUNDS, NUM_RUNS = 2, 2000


class Growth(NamedTuple):
    """Log growth of the bets over rounds at one level of harm.

    Attributes:
        mean: (B,).
        between: covariance between baselines, (B, B).
        within: covariance within one, (B, B).
    """

    mean: Floats
    between: Floats
    within: Floats


def spreads(by_baseline: list[Floats]) -> Growth:
    """Mean and covariances of (rounds, bets) arrays, one per baseline."""
    # What the rounds of one baseline have in common is that baseline's own noise.
    mean_AB = np.array([logs.mean(axis=0) for logs in by_baseline])
    within = np.mean([np.cov(logs.T) for logs in by_baseline], axis=0)
    return Growth(mean_AB.mean(axis=0), np.cov(mean_AB.T) - within / NUM_ROUNDS, within)


def noticed(growth: Growth, log_limit: float, horizon: int, log_pay_C: Floats) -> Floats:
    """Probability that the evidence has reached the limit by round 1, 2, ..., (R,).

    The loss is there from round 1; the evidence is mixed as in `evidence.weigh`.
    """
    # No answer needs more rounds than the largest of `WITHIN`.
    num_rounds = min(max(WITHIN), horizon)
    noise_NB, noise_NRB = _noise(num_rounds, len(growth.mean))
    baseline_NB = noise_NB @ _root(growth.between)
    # One product of all rows at once, not one for every run.
    rows = noise_NRB.reshape(-1, noise_NRB.shape[2]) @ _root(growth.within)
    growth_NRB = rows.reshape(noise_NRB.shape)
    # In place: fresh memory of this size takes longer than the sum.
    growth_NRB += (growth.mean + baseline_NB)[:, None]
    log_e_NR = mixed(growth_NRB, horizon, log_pay_C)
    # Once reached, the tier has acted: what the evidence does later does not matter.
    reached_NR = np.maximum.accumulate(log_e_NR, axis=1) >= log_limit
    return np.asarray(reached_NR.mean(axis=0), dtype=float)


def mixed(growth_NRB: Floats, horizon: int, log_pay_C: Floats) -> Floats:
    """Logarithm of E after each round, (N, R), from each round's log growth.

    It is `evidence.weigh` for many runs of one stream at once.
    """
    num_runs, num_rounds, num_bets = growth_NRB.shape
    planned, num_cells = max(horizon, num_rounds), len(log_pay_C)
    sum_BCN = np.zeros((num_bets // num_cells, num_cells, num_runs))
    log_e_NR = np.empty((num_runs, num_rounds))
    with np.errstate(over="ignore", divide="ignore"):
        # Round by round, which the processor's cache holds; runs last, as few bets are summed.
        for t in range(num_rounds):
            # Plain products: one too large to write down is infinite, and has reached any limit.
            factor_NCB = np.exp(growth_NRB[:, t]).reshape(num_runs, num_cells, -1)
            # Per bet, sum_{j <= t} exp(L_j + ... + L_t) = exp(L_t) (1 + the same of t - 1).
            sum_BCN = np.ascontiguousarray(factor_NCB.T) * (1 + sum_BCN)
            # Each beginning that has not been reached yet holds a bet that has won nothing.
            mixed_CN = (sum_BCN.mean(axis=0) + planned - t - 1) / planned
            log_e_NR[:, t] = (np.log(mixed_CN) + log_pay_C[:, None]).min(axis=0)
    return log_e_NR


@lru_cache(maxsize=4)
def _noise(num_rounds: int, num_bets: int) -> tuple[Floats, Floats]:
    """Standard normal draws (N, B) and (N, R, B), the same for every quantity and harm."""
    rng = np.random.default_rng(SEED)
    return rng.standard_normal((NUM_RUNS, num_bets)), rng.standard_normal(
        (NUM_RUNS, num_rounds, num_bets)
    )


def _root(covariance: Floats) -> Floats:
    """What makes standard normal rows have this covariance; negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T, dtype=float)
