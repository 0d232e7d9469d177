"""The retained probability of round 0's answers as a guarded quantity, for recipes that ask for it.

Not among `GUARDED`: how much of it a healthy run keeps differs from model to model, see
docs/decisions/022-scored-traces.md.
"""

from __future__ import annotations

from ouroloop.monitors.decision.declaration import Blocks, Found, GuardedQuantity
from ouroloop.monitors.decision.patterns import value
from ouroloop.monitors.decision.responses import Grid
from ouroloop.monitors.decision.tables import Tables
from ouroloop.monitors.estimators.estimand import EVERY

ID = "retained"
NO_TRACES = "no answers of round 0 were scored at the baseline"
# WATCH bets beyond a quarter of it. On the small world runs with 30 % real data kept 64 % and more
# while they improved, and the others fell below 60 % within three rounds.
LOSS = 1.6
"""More than there is to lose, so that HALT never acts on it."""


def retained(loss: float = LOSS) -> GuardedQuantity:
    """Retained probability, the mean over a problem's strategies (`estimators/retained.py`).

    A score *is* its expectation: no sampling noise, and the baseline's mean is 1 by definition.
    What the bets add to a plain threshold is inertia: a loss little beyond it must last.

    Args:
        loss: tolerated; WATCH bets beyond its share `watch_share`, HALT beyond it, and from 1 on
            never.

    Raises:
        ValueError: not above 0.
    """
    if not loss > 0:
        raise ValueError(
            f"monitors.guarded: retained: got loss {loss:g}; expected a number above 0: the share"
            " of the probability that may be lost, 1 and more for one that only WATCH acts on."
        )
    return GuardedQuantity(
        ID,
        "retained probability of round 0's answers",
        "traces/retained",
        _retained,
        tolerance="retained_loss",
        default=loss,
        why_missing=NO_TRACES,
        family=EVERY,
        samples="traces",
        # The readings compare with round 0 in every round.
        picked_at_baseline=True,
        # It has no noise to overcome: a small share shows soon, and costs the others little.
        share=0.02,
    )


def _retained(tables: Tables, pass_k: int) -> Found:
    # Asked for by name, so that "there is none" has to be said, not passed over.
    if tables.traces is None:
        return Blocks(1, value(Grid.RETAINED), tables.main, NO_TRACES)
    return Blocks(1, value(Grid.RETAINED), tables.traces, unit="strategy", exact=True)
