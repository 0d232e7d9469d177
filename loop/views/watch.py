"""A live table of a run, from any terminal: the run directory is read again and again.

No connection to the process that runs it is needed.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ouroloop.loop.views.endings import closing_text, is_halted, next_steps
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.progress import clock, round_cells, rounds_table
from ouroloop.loop.views.reader import Json, RunData, read_run
from ouroloop.monitors.decision.records import plain

# Rounds whose mean pace stands for the rounds to come.
PACE_ROUNDS = 3


def watch(path: Path, console: Console | None = None, every_seconds: float = 1.0) -> RunData:
    """Show a run until no process works on it any more, then print the closing table.

    Returns the last reading.

    On a terminal the table is redrawn in place; piped, one line is written per finished round and
    stage.

    Raises:
        RunStateError: `path` is not a run directory.
    """
    console = console or Console(highlight=False)
    run = read_run(path)
    if console.is_terminal:
        with Live(_screen(run), console=console, auto_refresh=False, transient=True) as live:
            # `before`: committed rounds never change and are not read again.
            while run.state == "running":
                time.sleep(every_seconds)
                run = read_run(path, before=run)
                live.update(_screen(run), refresh=True)
    else:
        run = _follow(run, console, every_seconds)
    parts = [rounds_table(run), closing_text(run), _state_line(run), next_steps(run)]
    _say(console, "\n".join(filter(None, parts)))
    return run


def _say(console: Console, text: str) -> None:
    """Print lines as they are: [brackets] are no markup, and a model's text gives no orders."""
    console.print(printable(text), markup=False, soft_wrap=True)


def _follow(run: RunData, console: Console, every_seconds: float) -> RunData:
    """One line per finished round and per stage, for a pipe or a file."""
    last_shown, stage = -1, ""
    while True:
        for round in run.rounds:
            if round.number <= last_shown:
                continue
            last_shown = round.number
            cells = round_cells(run, round)
            line = "  ".join(f"{head} {cell}" for head, cell in cells.items())
            _say(console, line)
            if round is run.rounds[-1]:
                _say(console, "\n".join(standing(run)))
        if run.state != "running":
            return run
        now = stage_line(run)
        # The count after the colon changes all the time; in a file that is one line too many.
        if now.split(":")[0] != stage.split(":")[0]:
            _say(console, now)
        stage = now
        time.sleep(every_seconds)
        run = read_run(run.path, before=run)


def stage_line(run: RunData) -> str:
    """What the run is doing now: `round 3 sampling: 120 of 1200`, from its latest event."""
    last: Json = {}
    if run.events:
        last = run.events[-1]
    line = str(last.get("stage") or last.get("event") or "starting")
    number = last.get("round", run.open_round)
    if number is not None:
        line = f"round {number} {line}"
    if "done" in last:
        line += f": {last['done']}"
        if last.get("total"):  # 0: not known
            line += f" of {last['total']}"
    return line


def _state_line(run: RunData) -> str:
    if is_halted(run):
        return f"The decision rule halted the run after round {run.rounds[-1].number}."
    return {
        "running": "The run is working.",
        "finished": "The run has finished.",
        "failed": (
            f"The run failed: {run.failure}\nIts finished rounds are kept; `ouroloop resume"
            f" {run.path}` continues it."
        ),
        "stopped": (
            f"The run was stopped before its end. Continue it with `ouroloop resume {run.path}`."
        ),
    }[run.state]


def _screen(run: RunData) -> Group:
    rows = [round_cells(run, round) for round in run.rounds]
    table = Table(
        title=run.name, title_justify="left", header_style="dim", box=None, padding=(0, 1)
    )
    heads = ["round"]
    if rows:
        heads = list(rows[0])
    for head in heads:
        is_text = head in ("round", "decision")
        table.add_column(head, justify="left" if is_text else "right")
    for row in rows:
        # Text, not str: rich would read [brackets] in a cell as markup.
        table.add_row(*(Text(printable(cell)) for cell in row.values()))
    below = [Text(printable(line)) for line in standing(run)]
    return Group(table, *below, Text(printable(stage_line(run)), style="bold"))


def standing(run: RunData) -> list[str]:
    """How the run stands: evidence against its limits, the last decision's reason, time left."""
    lines = []
    if run.rounds:
        last = run.rounds[-1]
        evidence = last.decision.get("evidence", {})
        parts = [
            f"{tier.upper()} e = {plain(found['log_e'])} (limit {plain(found['log_limit'])})"
            for tier, found in evidence.items()
        ]
        if parts:
            lines.append(f"evidence after round {last.number}: {', '.join(parts)}")
        lines += [f"{last.action}: {reason}" for reason in last.decision.get("reasons", [])[:1]]
    left = seconds_left(run)
    planned = int(run.recipe.get("rounds", 0))
    if left is not None:
        lines.append(f"about {clock(left)} left for {planned} rounds, at the pace of the last ones")
    return lines


def seconds_left(run: RunData) -> float | None:
    """Until the last planned round ends, at the mean pace of the last rounds; None: not known."""
    planned = int(run.recipe.get("rounds", 0))
    # Round 0 trains nothing, and the first rounds probe more.
    paces = [s for r in run.rounds[1:][-PACE_ROUNDS:] if not math.isnan(s := run.seconds(r.number))]
    if not paces or run.state != "running":
        return None
    pace = sum(paces) / len(paces)
    spent = 0.0
    if run.open_round is not None and not math.isnan(run.seconds(run.open_round)):
        spent = min(run.seconds(run.open_round), pace)
    return max(0.0, pace * (planned - run.rounds[-1].number) - spent)
