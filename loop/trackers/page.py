"""A run's page in a tracker: what every tracker shows of a run, and the least it must be able to.

`bring_up_to_date` decides what is shown and when; a `Page` knows how one service takes it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.trackers.headline import headline
from ouroloop.loop.trackers.notes import note_of_round, note_of_run
from ouroloop.loop.views.reader import Json, RoundData, RunData
from ouroloop.loop.views.report import write_report


class Memory:
    """What one tracker shows of a run already: a small file in the run's folder.

    Args:
        file: where it lies.
        known: what it holds; default: what was read from the file, if it can be read.
    """

    def __init__(self, file: Path, known: Json | None = None) -> None:
        self.file = file
        self.known: Json = _read(file) if known is None else known
        self.known.setdefault("rounds", {})

    def entry(self, number: int) -> Json:
        """What is known of a round: `done` once all of it is shown, and what the page adds."""
        entry: Json = self.known["rounds"].setdefault(str(number), {})
        return entry

    def save(self) -> None:
        """An interrupted write leaves the old file."""
        write_text(self.file, json.dumps(self.known, indent=1))


class Page(Protocol):
    """One run in one tracking service.

    Whatever it is asked to show may have been shown before, by a sync that was cut off: shown
    again, it must not stand there twice.
    """

    memory: Memory
    # Where its answers stand, as its own pages name the places; the end of the run's note.
    where_to_look: str

    def log_round(self, round: RoundData, numbers: Mapping[str, float]) -> None:
        """Show a committed round's headline numbers, evidence and action, by name."""
        ...

    def write(self, note: str, decisions: Mapping[int, str]) -> None:
        """Show the run's account and the decision of each round; both are Markdown.

        Both change as the run goes on: whether a remedy helped is known rounds later.
        """
        ...

    def attach(self, report: Path) -> None:
        """Keep the report, a file of HTML that is gone afterwards."""
        ...

    def close(self) -> None:
        """Show how the run stands (`RunData.state`, `RunData.failure`), and let go of it.

        When it returns, all that was shown is where the service keeps it.
        """
        ...


def bring_up_to_date(run: RunData, page: Page) -> None:
    """Show what is new since the last time. May raise whatever the service does."""
    memory = page.memory
    for round in run.rounds:
        entry = memory.entry(round.number)
        if entry.get("done"):
            continue
        page.log_round(round, headline(run, round))
        entry["done"] = True
    note = note_of_run(run, page.where_to_look)
    decisions = {round.number: note_of_round(run, round) for round in run.rounds}
    digest = digest_of(json.dumps([note, decisions]))
    if memory.known.get("words") != digest:
        page.write(note, decisions)
        memory.known["words"] = digest
    if run.rounds and run.state != "running":
        _attach_report(run, page)
    page.close()
    # Only now: most services write behind one's back, and a sync that is cut off before this shows
    # the same once more.
    memory.save()


def _attach_report(run: RunData, page: Page) -> None:
    # Drawing takes seconds, so it is done once for each way in which the run has stood still.
    stand = f"{run.state} after {len(run.rounds)} rounds"
    if page.memory.known.get("report") == stand:
        return
    with tempfile.TemporaryDirectory() as folder:
        page.attach(write_report([run.path], Path(folder) / "report.html"))
    page.memory.known["report"] = stand


def digest_of(text: str) -> str:
    """Enough of a hash to see that a text has changed."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(run: RunData) -> str:
    """A name for a run that is the same in every sync, and another one for a copy elsewhere."""
    started = (run.env.get("fingerprint", ""), run.env.get("started", ""), str(run.path))
    return digest_of("/".join(map(str, started)))


def _read(file: Path) -> Json:
    try:
        known = dict(json.loads(file.read_text(encoding="utf-8")))
        dict(known["rounds"])
    except (OSError, ValueError, TypeError, KeyError):
        # Missing or damaged: everything is shown once more, under the same id.
        return {}
    return known
