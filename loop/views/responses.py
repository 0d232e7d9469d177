"""What nobody scored, over the rounds: the frozen judge's approvals, and the responses' diversity.

A number comes from the round's readings; a guarded quantity of responses that no metric reads comes
from the decision, which has it beside round 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ouroloop.loop.views.headlines import APPROVED
from ouroloop.loop.views.measures import Measure, Value
from ouroloop.loop.views.reader import Json, RoundData, RunData
from ouroloop.loop.views.statistics import Unit, label, statistic_of
from ouroloop.monitors.decision.declaration import QuantityId, is_wording
from ouroloop.monitors.estimators.estimand import EVERY, Estimand

JUDGED_BY = (APPROVED, "principle/")
"""What the statistics begin with that are drawn here."""
APART = "clusters/apart"
"""Drawn by family: that of all families together is among the curves of every page."""


@dataclass(frozen=True)
class Line:
    """One number over the rounds of several arms: arm -> (round, value).

    quantity: the id of what is guarded; "" for a reading. unit: what its values are.
    """

    title: str
    meaning: str
    points: Mapping[str, Sequence[tuple[int, Value]]]
    quantity: str = ""
    unit: Unit = "share"


def lines(arms: Mapping[str, RunData]) -> Iterator[Line]:
    """Every such number that some arm has, those of readings first."""
    drawn = dict.fromkeys(
        reading.estimand
        for run in arms.values()
        for round in run.rounds
        for reading in round.readings
        if _is_drawn(reading.estimand)
    )
    for estimand in _without_repeats(list(drawn)):
        measure = Measure(estimand.id, estimand)
        points = {
            name: [(round.number, measure.read(round)) for round in run.rounds]
            for name, run in arms.items()
        }
        yield Line(label(estimand), statistic_of(estimand).meaning, points)
    measure = Measure(APART, Estimand(APART))
    has_apart = any(measure.read(r).defined for run in arms.values() for r in run.rounds)
    for quantity, line in _guarded(arms):
        # Where there are clusters, the reading of the same name is drawn.
        if quantity != QuantityId.APART or not has_apart:
            yield line


def _is_drawn(estimand: Estimand) -> bool:
    if estimand.statistic == APART:
        return estimand.family != EVERY
    return estimand.statistic.startswith(JUDGED_BY)


def _without_repeats(found: Sequence[Estimand]) -> list[Estimand]:
    """Without those of the only family: they are the numbers of all families."""
    count: dict[str, int] = {}
    for estimand in found:
        if estimand.family != EVERY:
            count[estimand.statistic] = count.get(estimand.statistic, 0) + 1
    return [e for e in found if e.family == EVERY or count[e.statistic] > 1]


def _guarded(arms: Mapping[str, RunData]) -> Iterator[tuple[str, Line]]:
    """Guarded quantities of responses, as compared with the first baseline that they have."""
    names: dict[str, str] = {}
    for run in arms.values():
        for round in run.rounds:
            for guard in _guards(round):
                names.setdefault(guard["quantity"], guard["name"])
    # A quantity keeps its first name, whatever a later round calls it.
    for quantity, name in names.items():
        points = {arm: list(_points(run, quantity)) for arm, run in arms.items()}
        meaning = "As the guard compares it with the earliest baseline round."
        if _is_picked_anew(quantity):
            meaning = (
                "Picked anew in each round: a point is of other patterns than the one before it."
                " What they were at the baseline stands in the decision's sentence."
            )
        # All others are shares of samples or pairs.
        unit: Unit = "ratio" if _part(quantity) == QuantityId.CLUSTERS else "share"
        yield quantity, Line(name[:1].upper() + name[1:], meaning, points, quantity, unit)


def _is_picked_anew(quantity: str) -> bool:
    return _part(quantity) in (QuantityId.CANNED, QuantityId.ALIVE_CLUSTERS)


def _part(quantity: str) -> str:
    """What is guarded, of whichever families."""
    return quantity.partition("/")[0]


def _guards(round: RoundData) -> Iterator[Json]:
    found = sorted(_of_responses(round), key=lambda guard: -int(guard["baseline"]))
    yield from {guard["quantity"]: guard for guard in found}.values()


def _of_responses(round: RoundData) -> list[Json]:
    return [guard for guard in round.decision.get("guards", []) if is_wording(guard["quantity"])]


def _points(run: RunData, quantity: str) -> Iterator[tuple[int, Value]]:
    # Of what is picked anew the baseline has another value beside each round.
    first = not _is_picked_anew(quantity)
    for round in run.rounds:
        for guard in _guards(round):
            if guard["quantity"] != quantity:
                continue
            # A baseline has no decision on itself: what it was is beside the next round's.
            if first:
                yield int(guard["baseline"]), Value(float(guard["before"]))
                first = False
            yield round.number, Value(float(guard["after"]))
