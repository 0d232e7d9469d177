"""What has to stand below the table of rounds: what was left out, not read, or not defined."""

from __future__ import annotations

from collections import Counter

from ouroloop.loop.views.headlines import table_measures
from ouroloop.loop.views.measures import BY_KEY
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import DASH, label

# A rejection filter's name; from this share on that surely repeats its critique a round says so.
COPIED_REASON, MOST_COPIED = "copied_critique", 0.25


def notes(run: RunData) -> list[str]:
    """What has to stand below the table.

    Why a dash is a dash, and which samples could not be read.
    """
    return [*undefined_notes(run), *(line for round in run.rounds for line in of_round(round))]


def of_round(round: RoundData) -> list[str]:
    """What a round left out, and what of it could not be read."""
    parts = (dropped_notes, unreadable_notes, copies_notes, repeated_notes)
    return [line for part in parts for line in part(round)]


def dropped_notes(round: RoundData) -> list[str]:
    """A line where servers left samples without a usable answer."""
    found = round.column("dropped", "why")
    if not found:
        return []
    of = len(found) + len(round.column("verdicts", "kept"))
    what = f"{len(found):,} of {of:,} samples were dropped, no server gave a usable answer"
    return [f"round {round.number}: {what}; e.g. {found[0]}"]


def copies_notes(round: RoundData) -> list[str]:
    """A line where held-out questions were found in what the round was to train on."""
    copies = round.screened.get("copies", [])
    if not copies:
        return []
    by = Counter(str(copy["by"]) for copy in copies)
    ways = {"question": "the same question", "near": "nearly the same", "text": "in the text"}
    how = ", ".join(f"{by[name]:,} {words}" for name, words in ways.items() if by[name])
    of = round.screened["num_examples"]
    what = f"{len(copies):,} of {of:,} examples held a held-out question and were left out ({how})"
    return [f"round {round.number}: {what}"]


def repeated_notes(round: RoundData) -> list[str]:
    """A line where many revisions only repeat their critique and were left out for that."""
    found = BY_KEY["copied"].read(round)
    reasons = round.column("verdicts", "reasons")
    num = sum(COPIED_REASON in list(each) for each in reasons)
    if not num or not found.low > MOST_COPIED:
        return []
    what = (
        f"{num:,} of {len(reasons):,} samples only repeat the critique that they should answer,"
        f" and were left out ({found.value:.0%} of what was revised). The model is weak: ask in"
        " another form (refine.form: paper), or revise directly (refine: {critique: false,"
        " revise_when: always})"
    )
    return [f"round {round.number}: {what}"]


# Table of a round -> what its rows are called.
UNREADABLE_IN = {"verdicts": "samples", "probe": "probe samples", "audit": "planted items"}


def unreadable_notes(round: RoundData) -> list[str]:
    """One line per table in which a reader failed.

    E.g. "round 3: 3 of 800 samples unreadable: 3 ValueError in dataflow".
    """
    lines = []
    for name, what in UNREADABLE_IN.items():
        # Empty: no such table, or a run of an earlier version.
        rows = round.column(name, "unreadable")
        labels = Counter(label for found in rows for label in found)
        failed = sum(len(found) > 0 for found in rows)
        if failed:
            why = ", ".join(f"{count:,} {label}" for label, count in labels.most_common())
            lines.append(
                f"round {round.number}: {failed:,} of {len(rows):,} {what} unreadable: {why}"
            )
    return lines


def undefined_notes(run: RunData) -> list[str]:
    """Why a dash is a dash, one line per measure and reason.

    Round 0 trains nothing, so its yield needs no note.
    """
    notes: dict[str, list[int]] = {}
    for round in run.rounds:
        for measure in table_measures(run):
            value = measure.read(round)
            if not value.defined:
                text = f"{label(measure.of(round))} is {measure.text(value)}"
                notes.setdefault(text, []).append(round.number)
    lines = []
    for text, numbers in notes.items():
        where = f"round {', '.join(map(str, numbers))}"
        if len(numbers) == len(run.rounds) > 1:
            where = "every round"
        elif len(numbers) > 1:
            where = where.replace("round", "rounds")
        lines.append(f"{DASH} {where}: {text}")
    return lines
