"""Which round is the best: for the plan, for what is kept, and for every view."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ouroloop.monitors.names import Action


def best_round(rounds: Iterable[tuple[int, float, str]]) -> int | None:
    """The round with the highest main-family pass@1 that the decision rule did not reject.

    Where nobody scores the answers, the last one after which nothing was called: a call says that a
    guarded quantity is worse than in the round that it is compared with.

    Args:
        rounds: (round, main-family pass@1, action of its decision) of every committed round.

    Returns:
        The earliest with the highest value, NaN left out; None when no round is left.
    """
    found = list(rounds)
    rejected = (Action.ROLLBACK, Action.HALT)
    # Ties go to the earlier round, which has trained less on its own samples.
    accepted = [(value, -number) for number, value, action in found if action not in rejected]
    scored = [each for each in accepted if not math.isnan(each[0])]
    if scored:
        return -max(scored)[1]
    return max((number for number, _, action in found if action == Action.CONTINUE), default=None)
