"""What a terminal shows while a run works, and the table it ends with.

A stage sees only the callable `Progress`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from ouroloop.loop.views.measures import BY_KEY, Measure
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import column, label, written

DASH = "–"
STAGE_WIDTH = 18


class Progress(Protocol):
    """How a stage says how far it is: `progress("sampling", 120, 1200, "round 3")`.

    Total 0 = not known.
    """

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report; cheap enough to be called for every item."""
        ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A Progress that says nothing."""


class LiveProgress:
    """A Progress for people: bars with counts and time left on a terminal.

    A plain line every few seconds when piped.

    A stage begins with its first call and ends when done reaches total or another stage begins; it
    then leaves one line behind. Writes to standard error: standard output stays what a script may
    read. `log` is called with (stage, done, total, note) every `every_seconds` and at a stage's
    end, for the run's event log, which `watch` reads.
    """

    def __init__(
        self,
        console: Console | None = None,
        every_seconds: float = 5.0,
        log: Callable[[str, int, int, str], None] | None = None,
    ) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.every_seconds, self.log = every_seconds, log
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._stage = self._note = ""
        self._began = self._told = 0.0
        self._done_at_start = self._done = self._total = 0

    def __enter__(self) -> LiveProgress:
        if self.console.is_terminal:
            columns = (
                TextColumn(f"{{task.description:<{STAGE_WIDTH}}}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._bars = Bars(*columns, console=self.console, transient=True, refresh_per_second=4)
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """See `Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._end()
            self._stage, self._began, self._done_at_start, self._told = stage, now, done, -1e9
            if self._bars is not None:
                self._task = self._bars.add_task(
                    stage, total=total or None, completed=done, note=note
                )
        self._done, self._total, self._note = done, total, note
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, note=note)
        finished = total > 0 and done >= total
        if not finished and now - self._told >= self.every_seconds:
            self._told = now
            self._tell(stage, done, total, note)
        if finished:
            self._end()

    def say(self, text: str) -> None:
        """Print a line of text without disturbing a bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _tell(self, stage: str, done: int, total: int, note: str) -> None:
        if self._bars is None:
            self.say(_line(stage, done, total, note, left=self._seconds_left()))
        if self.log is not None:
            self.log(stage, done, total, note)

    def _seconds_left(self) -> float | None:
        made = self._done - self._done_at_start
        return (
            (time.monotonic() - self._began) / made * (self._total - self._done)
            if made > 0 and self._total
            else None
        )

    def _end(self) -> None:
        if not self._stage:
            return
        stage, self._stage = self._stage, ""
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        took = time.monotonic() - self._began
        if self._total > 1 or took > 2:
            self.say(_line(stage, self._done, self._total, self._note, took=took))
        if self.log is not None:
            self.log(stage, self._done, self._total, self._note)


def _line(
    stage: str,
    done: int,
    total: int,
    note: str,
    left: float | None = None,
    took: float | None = None,
) -> str:
    count = "" if total == 1 else f" {done}/{total} ({done / total:.0%})" if total else f" {done}"
    tail = (
        f", took {clock(took)}"
        if took is not None
        else f", {clock(left)} left"
        if left is not None
        else ""
    )
    return f"{stage:<{STAGE_WIDTH}}{count}{tail}{'  ' + note if note else ''}"


def clock(seconds: float) -> str:
    """`42 s`, `3:05` or `2:10:00`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return (
        f"{whole} s"
        if whole < 60
        else f"{hours}:{minutes:02d}:{whole % 60:02d}"
        if hours
        else f"{minutes}:{whole % 60:02d}"
    )


TABLE = ("pass@1", "greedy", "maj@k", "dcp", "alive", "trace_entropy", "overconfidence")
"""Measures of the rounds table."""


def round_cells(run: RunData, round: RoundData) -> dict[str, str]:
    """One round as short texts by column; a dash is undefined."""
    seconds = run.seconds(round.number)
    kept = round.verdicts["kept"] if len(round.verdicts) else None
    shown = [BY_KEY[key] for key in TABLE]
    first = run.rounds[0]  # one head for all rounds, also where a monitor failed in one of them
    return {
        "round": f"{round.number}{' *' if round.number == run.best_round else ''}",
        "decision": round.action + ("" if round.carried_out else " (not done)"),
        **{column(m.of(first)): _cell(round, m, interval=m is shown[0]) for m in shown},
        "kept/sampled": f"{int(kept.sum())}/{len(kept)}" if kept is not None else DASH,
        "seconds": DASH if seconds != seconds else f"{seconds:.0f}",
    }


def rounds_table(run: RunData) -> str:
    """All committed rounds as a Markdown table, aligned for a terminal too.

    With a line for every undefined number below it.
    """
    rows = [round_cells(run, round) for round in run.rounds]
    if not rows:
        return f"{run.name}: no round is finished yet."
    return "\n".join([markdown(rows), *notes(run)])


def notes(run: RunData) -> list[str]:
    """What has to be said below the table.

    Why a dash is a dash, and which samples could not be read.
    """
    return [
        *undefined_notes(run),
        *(line for round in run.rounds for line in unreadable_notes(round)),
    ]


UNREADABLE_IN = {"verdicts": "samples", "probe": "probe samples", "audit": "planted items"}
"""Table of a round -> what its rows are called."""


def unreadable_notes(round: RoundData) -> list[str]:
    """One line per table in which a reader failed: "round 3: 3 of 800 samples unreadable.

    3 ValueError in dataflow".
    """
    lines = []
    for name, what in UNREADABLE_IN.items():
        table = getattr(round, name)
        if "unreadable" not in table:  # an empty table, or a run of an earlier version
            continue
        labels = Counter(label for found in table["unreadable"] for label in found)
        failed = sum(len(found) > 0 for found in table["unreadable"])
        if failed:
            why = ", ".join(f"{count:,} {label}" for label, count in labels.most_common())
            lines.append(
                f"round {round.number}: {failed:,} of {len(table):,} {what} unreadable: {why}"
            )
    return lines


def undefined_notes(run: RunData) -> list[str]:
    """Why a dash is a dash, one line per measure and reason.

    Round 0 trains nothing, so its yield needs no note.
    """
    notes: dict[str, list[int]] = {}
    for round in run.rounds:
        for measure in (BY_KEY[key] for key in TABLE):
            value = measure.read(round)
            if not value.defined:
                text = f"{label(measure.of(round))} is {measure.text(value)}"
                notes.setdefault(text, []).append(round.number)
    return [
        f"{DASH} round {', '.join(map(str, numbers))}: {text}" for text, numbers in notes.items()
    ]


def closing_text(run: RunData) -> str:
    """The last words of a run: the best round and where its checkpoint lies."""
    best = run.round(run.best_round)
    if best is None:
        return "No round is fit to be called best."
    score = BY_KEY["pass@1"].text(BY_KEY["pass@1"].read(best))
    return (
        f"* best round: {best.number}, pass@1 {score}\n  checkpoint: {run.checkpoint(best.number)}"
    )


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows with the same keys as an aligned Markdown table."""
    heads = list(rows[0])
    widths = [max(len(head), *(len(row[head]) for row in rows)) for head in heads]
    lines = [
        heads,
        ["-" * width for width in widths],
        *([row[head] for head in heads] for row in rows),
    ]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def _cell(round: RoundData, measure: Measure, interval: bool = False) -> str:
    value = measure.read(round)
    return written(value, measure.unit, interval) if value.defined else DASH
