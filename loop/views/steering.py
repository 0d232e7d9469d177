"""How a run was steered, for its charts: where the guard spoke, what it tolerates, its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ouroloop.loop.views import figures
from ouroloop.loop.views.figures import Limit, Mark
from ouroloop.loop.views.headlines import is_scored
from ouroloop.loop.views.measures import Measure
from ouroloop.loop.views.reader import Json, RunData
from ouroloop.monitors.decision.declaration import QuantityId
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.names import Action, Tier

# Beside the evidence of all quantities together; more lines than these cannot be told apart.
QUANTITIES_DRAWN = 6
ALL = "all together"


def marks(run: RunData) -> list[Mark]:
    """The rounds after which the guard spoke."""
    return [
        Mark(round.number, Action(round.action), round.carried_out)
        for round in run.rounds
        if round.action != Action.CONTINUE
    ]


def limits(run: RunData, measure: Measure) -> list[Limit]:
    """The worst values of a number that the guard tolerates, see `limits_of`."""
    wanted = {measure.of(round).id for round in run.rounds}
    # Where nobody scored, what is guarded of response clusters is this very number.
    is_apart = measure.key == "apart" and not is_scored(run)
    own = QuantityId.APART if is_apart else ""
    return _limits(run, lambda guard: guard.get("estimand") in wanted or guard["quantity"] == own)


def limits_of(run: RunData, quantity: str) -> list[Limit]:
    """The worst values that are tolerated of a quantity, one for each baseline that it has.

    One whose change counts from somewhere else than its baseline's value has none, nor has one that
    is picked anew in each round.
    """
    return _limits(run, lambda guard: guard["quantity"] == quantity)


def _limits(run: RunData, is_meant: Callable[[Json], bool]) -> list[Limit]:
    found: dict[int, Limit] = {}
    for round in run.rounds:
        for guard in round.decision.get("guards", []):
            if not is_meant(guard) or guard["note"]:
                continue
            before, tolerance = float(guard["before"]), float(guard["tolerance"])
            part = before * tolerance if guard["relative"] else tolerance
            worst = before - part if guard["up_is_better"] else before + part
            # The first round's: a baseline is frozen, so that later ones say the same.
            found.setdefault(guard["baseline"], Limit(guard["baseline"], worst))
    return list(found.values())


@dataclass(frozen=True)
class Evidence:
    """The evidence of one tier: what `figures.evidence` draws.

    colours: name -> colour, the same in both tiers.
    """

    tier: Tier
    lines: Mapping[str, Sequence[tuple[int, float]]]
    limits: Sequence[tuple[int, float]]
    marks: Sequence[Mark]
    colours: Mapping[str, str]


def evidence(run: RunData) -> Iterator[Evidence]:
    """Of both tiers, WATCH first; nothing of a run whose rounds were not weighed."""
    weighed = {
        tier: [
            (round.number, found)
            for round in run.rounds
            if (found := round.decision.get("evidence", {}).get(tier))
        ]
        for tier in Tier
    }
    # Chosen for both tiers together, so that a colour is one quantity's in both.
    streams = _loudest([found["by_quantity"] for of in weighed.values() for _, found in of])
    names = _names(run)
    called = [names.get(stream, stream) for stream in streams]
    colours = {ALL: figures.INK, **figures.legend_colours(called, figures.BANDS)}
    for tier, rounds in weighed.items():
        if not rounds:
            continue
        lines = {ALL: [(n, float(found["log_e"])) for n, found in rounds]}
        for stream, name in zip(streams, called, strict=True):
            own = [(n, found["by_quantity"].get(stream)) for n, found in rounds]
            if points := [(n, float(e)) for n, e in own if e is not None]:
                lines[name] = points
        limits = [(n, float(found["log_limit"])) for n, found in rounds]
        drawn = {name: colours[name] for name in lines}
        yield Evidence(tier, lines, limits, marks(run), drawn)


def _loudest(rounds: Sequence[Json]) -> list[str]:
    """The streams that ever had most evidence, by their ids; without those that nobody bet on."""
    most: dict[str, float] = {}
    for by_quantity in rounds:
        for stream, log_e in by_quantity.items():
            most[stream] = max(most.get(stream, float(log_e)), float(log_e))
    moved = [s for s in most if any(found.get(s) for found in rounds)]
    return sorted(moved, key=lambda stream: -most[stream])[:QUANTITIES_DRAWN]


def _names(run: RunData) -> dict[str, str]:
    """Stream id -> how it is called, by its first round's name."""
    found: dict[str, str] = {}
    for round in run.rounds:
        decided = round.decision
        # What waits for a later baseline is weighed in some tier, and has no guard's reading yet.
        for entry in (*decided.get("guards", []), *decided.get("unmeasured", [])):
            stream = StreamId(entry["quantity"], entry["baseline"])
            found.setdefault(str(stream), entry["name"])
    return found
