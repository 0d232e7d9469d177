"""Two tables of the report: why samples were rejected, and every reading of some rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ouroloop.loop.views.measures import rejections
from ouroloop.loop.views.reader import Json, RoundData, RunData
from ouroloop.monitors.base import Reading


def rejected(run: RunData) -> Json:
    """Share of each round's samples that each reason speaks against, commonest reasons first."""
    by_round = {r.number: (rejections(r), len(r.verdicts)) for r in run.rounds if len(r.verdicts)}
    # A sample rejected for two reasons counts in both rows.
    totals: dict[str, int] = {}
    for counts, _ in by_round.values():
        for reason, count in counts.items():
            totals[reason] = totals.get(reason, 0) + count
    rows = []
    for reason in sorted(totals, key=lambda reason: -totals[reason]):
        cells = []
        for counts, num in by_round.values():
            count = counts.get(reason, 0)
            cells.append((count, count / num))
        rows.append((reason, cells))
    return {
        "rounds": list(by_round),
        "rows": rows,
        "sampled": [num for _, num in by_round.values()],
    }


def readings(rounds: Sequence[RoundData]) -> Json:
    """Every reading of these rounds, a row each."""
    names = dict.fromkeys(reading.name for r in rounds for reading in r.readings)
    rows = []
    for name in names:
        found = [round.reading(name) for round in rounds]
        # A reading that failed has no unit; another round's has.
        units = [reading.unit for reading in found if reading is not None and reading.unit]
        unit = units[0] if units else ""
        rows.append((name, unit, [_reading(reading) for reading in found]))
    return {"rounds": [r.number for r in rounds], "rows": rows}


def _reading(reading: Reading | None) -> str:
    """One cell: empty where the round has no such reading, the reason where it is undefined."""
    if reading is None:
        return ""
    if reading.status == "error":
        return f"error: {reading.reason or 'no reason given'}"
    if reading.status != "ok" or math.isnan(reading.value):
        return f"undefined: {reading.reason or 'no reason given'}"
    if math.isnan(reading.low):
        return f"{reading.value:.3g}"
    return f"{reading.value:.3g} [{reading.low:.3g}, {reading.high:.3g}]"
