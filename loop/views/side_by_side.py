"""What the model answers to the same problem in one round and another, grouped by the way it takes.

A table of shares hides that every problem may keep one way only; the answers themselves do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.views.measures import ways_of
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.monitors.names import Action

# As many columns and ways fit a page; a phone scrolls.
MOST_ROUNDS = 4
MOST_WAYS = 3
PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class Way:
    """Samples of one problem that are alike, and one of them."""

    label: str
    count: int
    right: int | None
    text: str


@dataclass(frozen=True)
class Cell:
    """One problem in one round: the ways, commonest first, and how many more there are."""

    round: int
    samples: int
    ways: Sequence[Way]
    more: int


@dataclass(frozen=True)
class Row:
    """One problem over the rounds."""

    problem: str
    cells: Sequence[Cell]


def rows(run: RunData) -> list[Row]:
    """Problems of the main family: those that lost and that won most ways, and one in between."""
    chosen = [round for round in _rounds(run) if len(_samples(round))]
    if not chosen:
        return []
    tables = [_by_problem(round) for round in chosen]
    # Problems that every round answered: an empty cell would look like a loss.
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    if not shared:
        return []
    change = {p: _num_ways(tables[-1][p]) - _num_ways(tables[0][p]) for p in shared}
    ranked = sorted(shared, key=lambda problem: change[problem])
    places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1))
    return [
        Row(ranked[i], [_cell(r, t[ranked[i]]) for r, t in zip(chosen, tables, strict=True)])
        for i in list(places)[:PROBLEMS_SHOWN]
    ]


def _rounds(run: RunData) -> list[RoundData]:
    """The start, the first round after which something was done, the best, and the last."""
    acted = next((r for r in run.rounds if r.action != Action.CONTINUE), None)
    wanted = (*run.rounds[:1], acted, run.round(run.best_round), *run.rounds[-1:])
    found = {round.number: round for round in wanted if round is not None}
    return [found[number] for number in sorted(found)][:MOST_ROUNDS]


def _samples(round: RoundData) -> Any:
    """Probe samples of the main family, as a data frame."""
    table = round.probe
    if not len(table):
        return table
    is_one = (table["kind"] == "sample") & (table["family"] == round.main_family)
    return table[is_one].assign(way=_labels(table[is_one]))


def _labels(table: Any) -> Any:
    """The way of each sample, else the text itself."""
    found = ways_of(table)
    return found.where(found.notna(), table["text"])


def _by_problem(round: RoundData) -> Mapping[str, Any]:
    return {str(problem): part for problem, part in _samples(round).groupby("problem")}


def _num_ways(part: Any) -> int:
    """Ways of the right samples, or of all where none is scored."""
    scored = part[part["correct"].notna()]
    right = scored[scored["correct"] == 1] if len(scored) else part
    return int(right["way"].nunique())


def _cell(round: RoundData, part: Any) -> Cell:
    groups = sorted(part.groupby("way"), key=lambda group: (-len(group[1]), str(group[0])))
    return Cell(
        round.number, len(part), [_way(*g) for g in groups[:MOST_WAYS]], len(groups[MOST_WAYS:])
    )


def _way(label: str, part: Any) -> Way:
    scored = part["correct"].dropna()
    # The first one as it was sampled: the best or the shortest would show no usual answer.
    text = str(part["text"].iloc[0])
    # A text that is its own label would be shown twice.
    name = "" if label == text else str(label)
    return Way(name, len(part), int(scored.sum()) if len(scored) else None, text)
