"""What a tier's evidence is made of, and what it must reach."""

from __future__ import annotations

from collections.abc import Iterable
from math import log

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision import evidence, stakes
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.decision.stakes import Stream
from ouroloop.monitors.names import Tier

# WATCH's actions are cheap and reversible, so it need not be exact: its first cell costs nothing,
# and its limit is what fewer than a fifth of the runs reach that have every quantity on WATCH's
# boundary, in the worst of the worlds that were tried (decision 021).
FREE_C = stakes.LOG_PAY_C - stakes.LOG_PAY_C[0]
"""Log of what WATCH's evidence is multiplied with in each cell."""
WATCH_ALPHA, WATCH_LIMIT, WATCH_SLOPE = 0.20, 0.60, 0.60
"""WATCH's limit at this alpha, in nats, and how it rises with log(1 / alpha)."""

NUM_BETS = len(stakes.Z_C) * len(stakes.BETS_B)
"""Bets on a stream in a round: all of every cell."""


def growth(stream: Stream, tier: Tier, watch_share: float) -> Floats:
    """Log growth of a tier's bets on a loss of one stream in one round, (C, B).

    HALT bets on the whole tolerance, beside proven limits of the baseline's error; WATCH on its
    share of the tolerance, beside the spread as seen, and as on normal means where enough scores
    are neither 0 nor 1.
    """
    if tier is Tier.HALT:
        return stakes.loss_factors(stream, 1.0)
    if stream.is_nearly_normal:
        return stakes.normal_factors(stream, watch_share)
    return stakes.loss_factors(stream, watch_share, proven=False)


def pay(tier: Tier) -> Floats:
    """Log of what a tier pays for each cell of the baseline's error, (C,)."""
    return FREE_C if tier is Tier.WATCH else stakes.LOG_PAY_C


def limit(tier: Tier, alpha: float) -> float:
    """What a tier's log e-value must reach: proven for HALT, simulated for WATCH."""
    if tier is Tier.HALT:
        return evidence.log_limit(alpha)
    return WATCH_LIMIT + WATCH_SLOPE * log(WATCH_ALPHA / alpha)


def flat(growth_CB: Floats) -> tuple[float, ...]:
    """The growth of a stream's bets as they stand in decision.json: cell by cell."""
    return tuple(growth_CB.ravel().tolist())


def check_history(history: Iterable[Decision]) -> None:
    """Refuse to go on from the bets of an earlier rule.

    Raises:
        ValueError: a decision holds other bets than this rule makes.
    """
    for decision in history:
        bets = {} if decision.factors is None else decision.factors.watch
        for stream, growth in bets.items():
            if len(growth) != NUM_BETS:
                raise ValueError(
                    f"decision of round {decision.round}: got {len(growth)} bets on {stream};"
                    f" expected the {NUM_BETS} of this rule. It was made under an earlier rule,"
                    " whose evidence cannot be added to: start a new run, or go on with the"
                    " version that began it. Views of the old run work as before."
                )
