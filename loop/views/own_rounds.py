"""Rounds under the numbers that somebody's table gives them, for all that people and scripts read.

Judging counts rounds from 0, whatever a table calls them: 0, 100, 200 are three rounds, and the
first is the baseline. Whoever is to go back to a round needs the table's own number.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ouroloop.monitors.follower import Judged

# Fields of a decision and its parts that hold a round.
ROUND_FIELDS = ("round", "baseline", "since")
# Our sentences name a round so. "3 rounds" and "later rounds 8" name none.
NAMED = re.compile(r"\bround (\d+)\b")


def renumbered(rounds: Iterable[Judged], numbers: Sequence[int]) -> list[Judged]:
    """The rounds with the table's numbers, in sentences too.

    Args:
        rounds: what was judged, counted from 0.
        numbers: the number of each round; empty: they are counted from 0 there, too.
    """
    if not numbers:
        return list(rounds)
    out = []
    for judged in rounds:
        readings = [
            dataclasses.replace(reading, reason=sentence(reading.reason, numbers))
            for reading in judged.readings
        ]
        notes = tuple(sentence(note, numbers) for note in judged.notes)
        out.append(Judged(_own(judged.decision, numbers), tuple(readings), notes))
    return out


def sentence(text: str, numbers: Sequence[int]) -> str:
    """A sentence of ours with the table's numbers."""
    return NAMED.sub(lambda found: f"round {_number(int(found[1]), numbers)}", text)


def _number(position: int, numbers: Sequence[int]) -> int:
    return numbers[position] if position < len(numbers) else position


def _own(value: Any, numbers: Sequence[int]) -> Any:
    """A decision, or a part of one."""
    # Not enums, which are texts too: they name no round.
    if type(value) is str:
        return sentence(value, numbers)
    if isinstance(value, tuple):
        return tuple(_own(item, numbers) for item in value)
    if isinstance(value, Mapping):
        return {_own(key, numbers): _own(item, numbers) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return type(value)(
        **{
            name: _number(item, numbers) if name in ROUND_FIELDS else _own(item, numbers)
            for name, item in found.items()
        }
    )


def positions(wanted: Sequence[int], numbers: Sequence[int]) -> tuple[int, ...]:
    """Rounds that a user names by the table's numbers, counted from 0; 0 is the first one, too.

    One that the table has not lies beyond its end.
    """
    if not numbers:
        return tuple(wanted)
    known = {0: 0} | {number: position for position, number in enumerate(numbers)}
    return tuple(known.get(number, len(numbers) + i) for i, number in enumerate(wanted))
