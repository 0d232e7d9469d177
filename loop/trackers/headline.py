"""The few numbers that stand first: what a run's own page in a tracker shows over the rounds.

Every other reading belongs to the round's page. A name begins with its place, for MLflow sorts
charts by name. Values come from the round's readings and its decision, as in every view.
"""

from __future__ import annotations

from collections.abc import Iterator

from ouroloop.loop.trackers.points import plain
from ouroloop.loop.views.explain import room
from ouroloop.loop.views.measures import BY_KEY, Measure
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.responses import APPROVED
from ouroloop.loop.views.statistics import statistic_of
from ouroloop.monitors.estimators.estimand import EVERY, Estimand
from ouroloop.monitors.names import Action

NUM_HEADLINES = 10
SCORED = (
    "pass@1",
    "maj@k",
    "pass@k",
    "dcp",
    "ways",
    "rare",
    "overconfidence",
    "trace_entropy",
    "let_in",
    "yield",
)
"""Measures of a run whose probe set has gold answers."""
FREE = ("trace_entropy", "text_entropy", "text_nll", "critic", "let_in", "yield")
"""Measures of a run whose answers nobody scores, after the frozen judge's approvals."""
LENGTH = Measure("length", Estimand("length/tokens"))

ACTIONS = {action: number for number, action in enumerate(Action)}
"""The number that stands for an action: 0 continue, 1 reinject, 2 rollback, 3 halt."""


def headline_measures(run: RunData) -> tuple[Measure, ...]:
    """At most `NUM_HEADLINES` measures, the same in every round of a run."""
    # Round 0 decides for the whole run: a chart that begins later looks as if something happened.
    first = run.rounds[0]
    if BY_KEY["pass@1"].read(first).defined:
        return tuple(BY_KEY[key] for key in SCORED)
    asked = dict.fromkeys(r.estimand for r in first.readings if _is_approval(r.estimand))
    approvals = [Measure(estimand.id, estimand) for estimand in asked]
    others = [BY_KEY[key] for key in FREE]
    # Less one: LENGTH. Approvals give way, for a constitution may have dozens of principles.
    room_left = NUM_HEADLINES - len(others) - 1
    return (*approvals[:room_left], LENGTH, *others)


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


def _is_approval(estimand: Estimand) -> bool:
    return estimand.statistic.startswith(APPROVED) and estimand.family == EVERY
