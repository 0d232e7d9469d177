"""How a run was steered, for its charts: where the guard spoke, what it tolerates, its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ouroloop.loop.views import figures
from ouroloop.loop.views.figures import Limit, Mark
from ouroloop.loop.views.measures import Measure
from ouroloop.loop.views.reader import Json, RunData
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.names import Action, Tier

# Beside the evidence of all quantities together; more lines than these cannot be told apart.
QUANTITIES_DRAWN = 6


def marks(run: RunData) -> list[Mark]:
    """The rounds after which the guard spoke."""
    return [
        Mark(round.number, Action(round.action), round.carried_out)
        for round in run.rounds
        if round.action != Action.CONTINUE
    ]


def limits(run: RunData, measure: Measure) -> list[Limit]:
    """The worst values that the guard tolerates, one for each baseline that it compares with.

    A quantity whose change counts from somewhere else than its baseline's value has none.
    """
    found: dict[int, Limit] = {}
    for round in run.rounds:
        wanted = measure.of(round).id
        for guard in round.decision.get("guards", []):
            if guard.get("estimand") != wanted or guard["note"]:
                continue
            before, tolerance = float(guard["before"]), float(guard["tolerance"])
            part = before * tolerance if guard["relative"] else tolerance
            worst = before - part if guard["up_is_better"] else before + part
            # The first round's: a baseline is frozen, so that later ones say the same.
            found.setdefault(guard["baseline"], Limit(guard["baseline"], worst))
    return list(found.values())


@dataclass(frozen=True)
class Evidence:
    """The evidence of one tier: what `figures.evidence` draws."""

    tier: Tier
    lines: Mapping[str, Sequence[tuple[int, float]]]
    limits: Sequence[tuple[int, float]]
    marks: Sequence[Mark]

    @property
    def colours(self) -> dict[str, str]:
        """Name -> colour, for the legend."""
        names = list(self.lines)
        return {names[0]: figures.INK, **figures.legend_colours(names[1:], figures.BANDS)}


def evidence(run: RunData) -> Iterator[Evidence]:
    """Of both tiers, WATCH first; nothing of a run whose rounds were not weighed."""
    for tier in Tier:
        weighed = [
            (round.number, found)
            for round in run.rounds
            if (found := round.decision.get("evidence", {}).get(tier))
        ]
        if not weighed:
            continue
        lines = {"all together": [(n, float(found["log_e"])) for n, found in weighed]}
        names = _names(run)
        for stream in _loudest([found["by_quantity"] for _, found in weighed]):
            own = [(n, f["by_quantity"].get(stream)) for n, f in weighed]
            lines[names.get(stream, stream)] = [(n, float(e)) for n, e in own if e is not None]
        limits = [(n, float(found["log_limit"])) for n, found in weighed]
        yield Evidence(tier, lines, limits, marks(run))


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
