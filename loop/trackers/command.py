"""Notifications by a shell command: a round was steered, a run ended or failed.

A mail, a message in a chat, a job that takes the checkpoint away: whatever a shell can do.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroloop.evals.errors import DataError
from ouroloop.evals.plugins import nearest
from ouroloop.loop.interrupts import resume_command
from ouroloop.loop.trackers.page import Memory, digest_of
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.reader import RoundData, RunData, read_run
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.names import Action

ENDS = ("finished", "failed")
EVENTS = (*(str(action.value) for action in Action), *ENDS)
KEY = "tracking.trackers: command"


@dataclass(frozen=True)
class Message:
    """What a command receives: JSON on its standard input, and variables of its environment.

    Attributes:
        key: identifies it within the run; each key is sent once.
        event: one of `EVENTS`.
        round: of an end the last one's number, -1 where none was finished.
        title: the run and the event, a line.
        text: the whole message; it begins with the title.
    """

    key: str
    event: str
    round: int
    title: str
    text: str

    @classmethod
    def of_round(cls, run: RunData, round: RoundData) -> Message:
        """A round's decision, and what to read about it."""
        title = f"{run.name}, round {round.number}: {round.action}"
        if round.action != Action.CONTINUE and not round.carried_out:
            title += " (not done)"
        more = f"More: ouroloop explain {run.path} --round {round.number}"
        text = "\n".join([title, *why(round.decided), more])
        return cls(f"round {round.number}", round.action, round.number, title, text)

    @classmethod
    def of_end(cls, run: RunData) -> Message:
        """How a run ended: its story, or why it failed and what goes on with it."""
        last = run.rounds[-1].number if run.rounds else -1
        title = f"{run.name}: {run.state}" + (f" after round {last}" if run.rounds else "")
        rest = [run.failure, f"Go on with: {resume_command(run.path)}"]
        if run.state == "finished":
            rest = sentences(run)
        # A run that fails again after more rounds, or for another reason, says so again.
        key = "\n".join([title, run.failure])
        return cls(key, run.state, last, title, "\n".join([title, *rest]))


@dataclass(frozen=True)
class CommandTracker:
    """A `Tracker` that runs a command for each event, once.

    Args:
        command: A line for `sh -c`. The event is a JSON object on its standard input (`run`,
            `path`, `event`, `round`, `title`, `text`), the same are variables of its environment
            (OUROLOOP_RUN, ...). What it prints goes to the run's tracking.log.
        events: Those of interest: an action of a round, `finished` or `failed`.
        seconds: It is killed after so long, and tried again at the next round.

    Raises:
        DataError: no command, an unknown event, or no time.
    """

    command: str
    events: Sequence[str] = ("reinject", "rollback", "halt", *ENDS)
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Wrong options are found before the run begins."""
        if not isinstance(self.command, str) or not self.command.strip():
            raise DataError(f"{KEY}: command is {self.command!r}; expected a line for the shell.")
        if isinstance(self.events, str) or not self.events:
            raise DataError(
                f"{KEY}: events is {self.events!r}; expected a list of {', '.join(EVENTS)}."
            )
        for event in self.events:
            if event not in EVENTS:
                raise DataError(f"{KEY}: events: no event {event!r}. {nearest(str(event), EVENTS)}")
        if not self.seconds > 0:
            raise DataError(f"{KEY}: seconds is {self.seconds!r}; expected more than 0.")

    def sync(self, run_path: Path) -> None:
        """See `Tracker.sync`.

        Raises:
            DataError: the command failed; the event is sent again by the next sync.
        """
        run = read_run(run_path.resolve())
        # Several commands may listen to one run, each to other events.
        memory = Memory(run.path / f"tracking-command-{digest_of(self.command)}.json")
        sent = memory.known.setdefault("sent", [])
        for message in _messages(run):
            if message.event in self.events and message.key not in sent:
                self._send(run, message)
                sent.append(message.key)
                # At once: the next one may fail, and nothing is sent twice.
                memory.save()

    def _send(self, run: RunData, message: Message) -> None:
        content = {
            "run": run.name,
            "path": str(run.path),
            "event": message.event,
            "round": message.round,
            "title": printable(message.title),
            "text": printable(message.text),
        }
        # In the environment, not in the line: no text of a run is ever read by the shell.
        variables = {f"OUROLOOP_{key.upper()}": str(value) for key, value in content.items()}
        try:
            subprocess.run(
                self.command,
                shell=True,
                check=True,
                input=json.dumps(content),
                text=True,
                timeout=self.seconds,
                env={**os.environ, **variables},
            )
        except subprocess.TimeoutExpired:
            raise DataError(
                f"{KEY}: not over after {self.seconds:g} s, and ended: {self.command}"
            ) from None
        except subprocess.CalledProcessError as error:
            raise DataError(f"{KEY}: exit code {error.returncode}: {self.command}") from None


def _messages(run: RunData) -> Iterator[Message]:
    """Every event so far, in the order in which it happened."""
    for round in run.rounds:
        yield Message.of_round(run, round)
    if run.state in ENDS:
        yield Message.of_end(run)
