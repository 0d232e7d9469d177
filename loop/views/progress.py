"""What a terminal shows while a run works, and the table it ends with.

A stage sees only the callable `Progress`.
"""

from __future__ import annotations

import math
import sys
import time
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

from ouroloop.loop.views.headlines import table_measures
from ouroloop.loop.views.measures import Measure
from ouroloop.loop.views.notes import notes
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import DASH, column, written

STAGE_WIDTH = 18
# A stage that took less and had one item only is not worth a line.
SHORT_SECONDS = 2


class Progress(Protocol):
    """How a stage says how far it is: `progress("sampling", 120, 1200, "round 3")`.

    Total 0 = not known.
    """

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report; cheap enough to be called for every item."""
        ...


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
        self._began = self._reported = 0.0
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
        # A new name is the next stage, whether or not the last one reached its total.
        if stage != self._stage:
            self._end()
            self._begin(stage, done, total, note)
        self._done, self._total, self._note = done, total, note
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, note=note)
        finished = total > 0 and done >= total
        if not finished and now - self._reported >= self.every_seconds:
            self._reported = now
            self._report(stage, done, total, note)
        if finished:
            self._end()

    def say(self, text: str) -> None:
        """Print a line of text without disturbing a bar."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def _begin(self, stage: str, done: int, total: int, note: str) -> None:
        self._stage, self._began = stage, time.monotonic()
        self._done_at_start = done
        self._reported = -math.inf  # the first call of a stage is always reported
        if self._bars is not None:
            self._task = self._bars.add_task(stage, total=total or None, completed=done, note=note)

    def _report(self, stage: str, done: int, total: int, note: str) -> None:
        # On a terminal the bar itself shows this.
        if self._bars is None:
            self.say(_line(stage, done, total, note, left=self._seconds_left()))
        if self.log is not None:
            self.log(stage, done, total, note)

    def _seconds_left(self) -> float | None:
        """At the speed of this stage so far; items that a resumed stage found do not count."""
        made = self._done - self._done_at_start
        if made <= 0 or not self._total:
            return None
        seconds_each = (time.monotonic() - self._began) / made
        return seconds_each * (self._total - self._done)

    def _end(self) -> None:
        if not self._stage:
            return
        stage, self._stage = self._stage, ""
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        took = time.monotonic() - self._began
        if self._total > 1 or took > SHORT_SECONDS:
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
    line = f"{stage:<{STAGE_WIDTH}}"
    if total > 1:
        line += f" {done}/{total} ({done / total:.0%})"
    elif total == 0:
        line += f" {done}"
    if took is not None:
        line += f", took {clock(took)}"
    elif left is not None:
        line += f", {clock(left)} left"
    if note:
        line += f"  {note}"
    return line


def clock(seconds: float) -> str:
    """`42 s`, `3:05` or `2:10:00`."""
    hours, minutes, left = _split(seconds)
    if hours == minutes == 0:
        return f"{left} s"
    if hours == 0:
        return f"{minutes}:{left:02d}"
    return f"{hours}:{minutes:02d}:{left:02d}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s` or `2 h 10 min`: for a sentence, where `3:05` might be hours."""
    hours, minutes, left = _split(seconds)
    if hours == minutes == 0:
        return f"{left} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"


def _split(seconds: float) -> tuple[int, int, int]:
    """Hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    return (*divmod(minutes, 60), left)


def round_cells(run: RunData, round: RoundData) -> dict[str, str]:
    """One round as short texts by column; a dash is undefined."""
    number, decision, supply = str(round.number), round.action, DASH
    if round.number == run.best_round:
        number += " *"
    if not round.carried_out:
        decision += " (not done)"
    if kept := round.column("verdicts", "kept"):
        supply = f"{sum(kept)}/{len(kept)}"
    seconds = run.seconds(round.number)
    shown = table_measures(run)
    # One head for all rounds, also where a monitor failed in one of them.
    first = run.rounds[0]
    numbers = {column(m.of(first)): _cell(round, m, interval=m is shown[0]) for m in shown}
    return {
        # * marks the best round.
        "round": number,
        **objective_cell(run, round),
        "decision": decision,
        **numbers,
        "kept/sampled": supply,
        "seconds": DASH if seconds != seconds else f"{seconds:.0f}",
    }


def objective_cell(run: RunData, round: RoundData) -> dict[str, str]:
    """What the round trained with, where the run does not train with sft alone."""
    if not run.has_stages:
        return {}
    if not round.objective:
        return {"objective": DASH}
    num = len(round.column("pairs", "problem_id"))
    pairs = f", {num} pairs" if num else ""
    return {"objective": f"{round.objective}{pairs}"}


def rounds_table(run: RunData, between: str = "\n") -> str:
    """All committed rounds as a Markdown table, aligned for a terminal too.

    Below it stands a line for every undefined number. `between`: of table and lines; a page of
    Markdown takes a line right below a table for one more row of it, and needs a blank one.
    """
    rows = [round_cells(run, round) for round in run.rounds]
    if not rows:
        return f"{run.name}: no round is finished yet."
    return between.join([markdown(rows), *notes(run)])


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows with the same keys as an aligned Markdown table."""
    heads = list(rows[0])
    widths = [max(len(head), *(len(row[head]) for row in rows)) for head in heads]
    cells = [heads, ["-" * width for width in widths]]
    cells += [[row[head] for head in heads] for row in rows]
    lines = []
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def _cell(round: RoundData, measure: Measure, interval: bool = False) -> str:
    value = measure.read(round)
    if not value.defined:
        return DASH
    return written(value, measure.unit, interval)
