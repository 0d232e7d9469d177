"""The few numbers that stand first: what a run's own page in a tracker shows over the rounds.

Every other reading belongs to the round's page. A name begins with its place, for MLflow sorts
charts by name. Values come from the round's readings and its decision, as in every view.
"""

from __future__ import annotations

from collections.abc import Iterator

from ouroloop.loop.trackers.points import plain
from ouroloop.loop.views.explain import room
from ouroloop.loop.views.headlines import headline_measures
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import statistic_of
from ouroloop.monitors.names import Action

ACTIONS = {action: number for number, action in enumerate(Action)}
"""The number that stands for an action: 0 continue, 1 reinject, 2 rollback, 3 halt."""


def headline(run: RunData, round: RoundData) -> dict[str, float]:
    """Metric name -> value of one round, in the order in which they are read; undefined left out.

    `1_headline/...` are readings. `decision/action` is the number of `ACTIONS`. `evidence/...` are
    natural logarithms of e-values, beside their limits. `tolerance/...` is the room that a guarded
    quantity has to its tolerance, in tolerances, at its nearest baseline: 0 is the limit.
    """
    found: dict[str, float] = {}
    for place, measure in enumerate(headline_measures(run), start=1):
        short = statistic_of(measure.of(run.rounds[0])).short
        found[f"1_headline/{place:02d} {short}"] = measure.read(round).value
    action = Action(round.action)
    # Round 0 decides nothing, unless it halts. In the table of the run's page names stand in the
    # order in which they first came: those that round 0 lacks shall not come after this one.
    if round.number or action is not Action.CONTINUE:
        found["decision/action"] = float(ACTIONS[action])
    found |= dict(_evidence(round))
    found |= _rooms(round)
    return {plain(name): value for name, value in found.items() if value == value}


def _evidence(round: RoundData) -> Iterator[tuple[str, float]]:
    for tier, found in round.decided.evidence.items():
        yield f"evidence/{tier}", found.log_e
        yield f"evidence/{tier}_limit", found.log_limit


def _rooms(round: RoundData) -> dict[str, float]:
    """Room of each quantity beside the baseline that it is nearest to.

    A quantity that is guarded for each of many names (strategies, clusters, criteria) has one
    number: that of the name which is nearest.
    """
    nearest: dict[str, float] = {}
    for guard in round.decided.guards:
        name = f"tolerance/{guard.quantity.partition('/')[0]}"
        # A loss that is no number says nothing of how near it is, and would hide the others.
        if (left := room(guard)) == left:
            nearest[name] = min(left, nearest.get(name, float("inf")))
    return nearest
