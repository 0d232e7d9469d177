"""Which round is the best: for the plan, for what is kept, and for every view."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ouroloop.monitors.names import Action


def best_round(rounds: Iterable[tuple[int, float, str]]) -> int | None:
    """The round with the highest main-family pass@1 that the decision rule did not reject.

    Args:
        rounds: (round, main-family pass@1, action of its decision) of every committed round.

    Returns:
        The earliest with the highest value, NaN left out. Where no round has a value, because
        nobody scores the answers, the last one; None when no round is left.
    """
    # Ties go to the earlier round, which has trained less on its own samples.
    rejected = (Action.ROLLBACK, Action.HALT)
    accepted = [(value, -number) for number, value, action in rounds if action not in rejected]
    scored = [each for each in accepted if not math.isnan(each[0])]
    if scored:
        return -max(scored)[1]
    return max((-negated for _, negated in accepted), default=None)
