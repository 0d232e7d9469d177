"""The logs of a pilot, a small language model in four self-training loops, under the rule.

The logs hold numbers per problem, not samples: how often 16 samples were right, and their share of
distinct-correct pairs. The first are right or wrong samples in any order; the second is one score
in [0, 1] of all 16 samples at once, so that the largest bets win less on it than on pairs. Round 0,
with 16 samples a problem like every other, is the baseline: its own noise costs far more than one
of 64 would.

Beside it the analysis that the logs were first read with, a normal e-process on paired z-scores:
sooner, but right only for many problems.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from ouroloop.monitors.bench.cells import Cell, Cells
from ouroloop.monitors.decision import evidence, stakes, tiers
from ouroloop.monitors.decision.stakes import Stream

# The logs are no part of the repository: they are read from a folder beside it.
DATA = Path(os.environ.get("OUROLOOP_DATA", Path("..") / "shared" / "data"))
LOOPS = ("replace", "sharpen", "verify", "healthy")
SHARES = (1.0, 0.5, 0.25)
NUM_SAMPLES = 16
# The loops have at most 12 rounds.
ALPHA, HORIZON = 0.05, 12
# From half a standard error to four: no one stake suits all sizes of a loss.
NORMAL_STAKES = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
STREAMS = {
    "id_acc_v": (0.01, False),
    "id_dcp_v": (0.10, True),
    "tail_acc_v": (0.01, False),
    "tail_dcp_v": (0.10, True),
}
"""Name in the log -> tolerance, and whether it is a share of the baseline's."""


@dataclass(frozen=True)
class Alarm:
    """When a loop is halted, and by what.

    Attributes:
        rule: exact, or normal.
        loop: the loop's name.
        baseline: the baseline round.
        share: of every tolerance.
        alarm: the round of HALT, 0 for never.
        driver: the quantity with most of the evidence.
        log_e: the evidence at the alarm, or at the end.
    """

    rule: str
    loop: str
    baseline: int
    share: float
    alarm: int
    driver: str
    log_e: float


def read(loop: str) -> list[dict[str, Any]]:
    """A loop's rounds, oldest first."""
    path = DATA / "pilot" / f"lm_{loop}_0.json"
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def stream(
    name: str,
    now: Mapping[str, Any],
    baseline: Mapping[str, Any],
    following: Mapping[str, Any],
) -> Stream:
    """One quantity of a round.

    The baseline's noise is that of counted samples; for pairs it is half of the squared change to
    the round that follows, which has as much noise of its own.
    """
    tolerance, relative = STREAMS[name]
    baseline_P, now_P, next_P = (
        np.array(entry[name], dtype=float) for entry in (baseline, now, following)
    )
    if name.endswith("acc_v"):
        right_P = np.rint(NUM_SAMPLES * now_P)
        block_PRM = (np.arange(NUM_SAMPLES) < right_P[:, None])[:, None, :].astype(float)
        variance_P = baseline_P * (1 - baseline_P) / (NUM_SAMPLES - 1)
    else:
        block_PRM = now_P[:, None, None]
        variance_P = (next_P - baseline_P) ** 2 / 2
    se = float(np.sqrt(variance_P.sum())) / len(baseline_P)
    return Stream(
        baseline_P,
        block_PRM,
        se,
        tolerance,
        relative,
    )


def follow(
    entries: Sequence[Mapping[str, Any]],
    loop: str,
    share: float,
    baseline: int = 0,
    rule: str = "exact",
) -> Alarm:
    """A rule on one loop's log, from the round after its baseline round."""
    weigh, limit = RULES[rule]
    log_e = 0.0
    for number, (log_e, driver) in enumerate(weigh(entries, share, baseline), start=baseline + 1):
        if log_e >= limit:
            return Alarm(
                rule,
                loop,
                baseline,
                share,
                number,
                driver,
                round(log_e, 2),
            )
    return Alarm(
        rule,
        loop,
        baseline,
        share,
        0,
        "",
        round(log_e, 2),
    )


def _exact(
    entries: Sequence[Mapping[str, Any]],
    share: float,
    baseline: int,
) -> Iterator[tuple[float, str]]:
    """The decision rule: (log evidence, driver) round by round."""
    rounds: list[dict[str, tuple[float, ...]]] = []
    for now in entries[baseline + 1 :]:
        factors = {}
        for name in STREAMS:
            one = stream(
                name,
                now,
                entries[baseline],
                entries[baseline + 1],
            )
            growth_CB = stakes.loss_factors(one, share)
            factors[name.removesuffix("_v")] = tiers.flat(growth_CB)
        rounds.append(factors)
        weight = evidence.weigh(rounds, HORIZON)
        yield weight.log_e, weight.driver


def _normal(
    entries: Sequence[Mapping[str, Any]],
    share: float,
    baseline: int,
) -> Iterator[tuple[float, str]]:
    """The same by a normal e-process, exp(lambda S - lambda^2 V / 2).

    S sums the paired z-scores (loss less tolerance) of m rounds. Its variance is
    V = m (1 - rho) + rho m^2: the rounds share a baseline of as many samples as each has, so that
    rho is a half. Stakes, beginnings and quantities are mixed as in the rule, all with equal
    weights.
    """
    rho = 0.5
    z_QT = np.empty((len(STREAMS), 0))
    num_stakes = len(NORMAL_STAKES)
    for now in entries[baseline + 1 :]:
        z_Q = [_paired_z(name, now, entries[baseline], share) for name in STREAMS]
        z_QT = np.column_stack([z_QT, z_Q])
        # Sums over the rounds since each possible beginning.
        length_T = np.arange(z_QT.shape[1], 0, -1.0)
        sum_QT = z_QT[:, ::-1].cumsum(1)[:, ::-1]
        variance_T = length_T * (1 - rho) + rho * length_T**2
        log_QTL = sum_QT[..., None] * NORMAL_STAKES - NORMAL_STAKES**2 * variance_T[:, None] / 2
        # Beginnings that are still to come have won nothing.
        later = -np.inf
        if len(length_T) < HORIZON:
            later = np.log((HORIZON - len(length_T)) * num_stakes)
        begun_Q = logsumexp(log_QTL, axis=(1, 2))
        log_Q = np.logaddexp(begun_Q, later) - np.log(HORIZON * num_stakes)
        driver = list(STREAMS)[int(log_Q.argmax())].removesuffix("_v")
        yield float(logsumexp(log_Q) - np.log(len(STREAMS))), driver


RULES = {"exact": (_exact, evidence.log_limit(ALPHA)), "normal": (_normal, -np.log(ALPHA))}
"""Name -> what weighs the evidence of each round, and its limit."""


def _paired_z(
    name: str,
    now: Mapping[str, Any],
    baseline: Mapping[str, Any],
    share: float,
) -> float:
    tolerance, relative = STREAMS[name]
    baseline_P, now_P = (np.array(entry[name], dtype=float) for entry in (baseline, now))
    tolerated = share * tolerance
    if relative:
        tolerated *= baseline_P.mean()
    loss_P = baseline_P - now_P - tolerated
    se = loss_P.std(ddof=1) / np.sqrt(len(loss_P))
    return float(loss_P.mean() / se)


def one(
    rule: str,
    loop: str,
    baseline: int,
    share: float,
) -> Alarm:
    """A line of the table."""
    return follow(read(loop), loop, share, baseline, rule)


def cells(out: Path) -> Cells:
    """All loops against round 0, and the two slow ones against round 2."""
    followed = [(loop, 0) for loop in LOOPS] + [(loop, 2) for loop in ("verify", "healthy")]
    lines = [(rule, *which, share) for rule in RULES for which in followed for share in SHARES]
    return {Cell(out / "pilot.csv"): (one, lines)}
