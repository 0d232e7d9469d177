"""The last lines of a run: which checkpoint to take, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ouroloop.loop.folder.store import default_root
from ouroloop.loop.views import costs
from ouroloop.loop.views.measures import best_by
from ouroloop.loop.views.reader import RunData
from ouroloop.monitors.names import Action


def closing_text(run: RunData) -> str:
    """The best round, where its checkpoint lies, and what was sampled."""
    best = run.round(run.best_round)
    lines = ["No round is fit to be called best."]
    if best is not None:
        lines = [f"* best round: {best.number}, {best_by(best)}"]
        lines.append(f"  checkpoint: {run.place(best.number)}")
    return "\n".join(filter(None, [*lines, costs.sentence(run.rounds)]))


def next_steps(run: RunData) -> str:
    """What to do now, a command a line; nothing of a run that somebody works on."""
    if not run.rounds or run.state == "running":
        return ""
    commands = list(_commands(run))
    width = max(len(command) for command, _ in commands)
    lines = ["Next:", *(f"  {command:{width}}  {what}" for command, what in commands)]
    if is_halted(run):
        lines.append(
            "  A halted run is over. Start another one from that checkpoint (`model:`), under"
            " another name, with more replay\n  (dataset.replay_fraction), a higher temperature"
            " (sampling.temperatures) or fewer epochs."
        )
    return "\n".join(lines)


def is_halted(run: RunData) -> bool:
    """Whether the decision rule ended the run."""
    last = run.rounds[-1] if run.rounds else None
    return last is not None and last.action == Action.HALT and last.carried_out


def _commands(run: RunData) -> Iterator[tuple[str, str]]:
    name = called(run)
    acted = [round for round in run.rounds if round.action != Action.CONTINUE]
    if acted:
        last = acted[-1]
        yield f"ouroloop explain {name} --round {last.number}", f"why it said {last.action}"
    yield f"ouroloop report {name}", "one page: what happened, when and why it was steered"
    best = run.round(run.best_round)
    # Round 0 is the starting model: nothing to hand on.
    if best is not None and best.number:
        yield f"ouroloop publish {name} --dry-run", f"round {best.number}'s model card"


def called(run: RunData) -> str:
    """The run's name where that finds it, else its folder."""
    if (default_root() / run.path.name).resolve() == run.path.resolve():
        return shlex.quote(run.path.name)
    return shlex.quote(str(run.path))
