"""What the pages of a run and of its rounds say in words; Markdown, the answer first.

MLflow shows three lines of a note and folds the rest away.
"""

from __future__ import annotations

import re

from ouroloop.loop.views.account import Step, sentences, steps
from ouroloop.loop.views.explain import helped
from ouroloop.loop.views.measures import best_by
from ouroloop.loop.views.progress import markdown, rounds_table
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import DASH

# MLflow refuses longer tags than 8,000 characters, and a note is one.
MAX_LENGTH = 7900
CUT = "\n... (the rest: `report.html` under Artifacts, or `ouroloop explain`)"


def note_of_run(run: RunData, where_to_look: str) -> str:
    """Which checkpoint to take, what happened, when it was steered and why, whether it helped.

    Args:
        run: the run.
        where_to_look: one paragraph: where the tracker's own pages show the rest.
    """
    parts = []
    if run.failure:
        parts.append(f"**Failed:** {run.failure}")
    parts.append(f"**Checkpoint to take:** {_best(run)}")
    parts.append(f"**What happened:** {' '.join(sentences(run))}")
    steered = [step for step in steps(run) if step.acts]
    if steered:
        rows = [_steered(run, step) for step in steered]
        parts.append(f"**When it was steered, why, and whether it helped:**\n\n{markdown(rows)}")
    return fitted("\n\n".join([*parts, where_to_look, rounds_table(run, "\n\n")]))


def fitted(note: str) -> str:
    """The note with as many whole lines as MLflow takes, and a word where more were cut off."""
    # The cells were padded for a terminal.
    lines = [re.sub(r" {2,}|-{4,}", _narrow, line) for line in note.splitlines()]
    if len("\n".join(lines)) <= MAX_LENGTH:
        return "\n".join(lines)
    while lines and len("\n".join(lines)) + len(CUT) > MAX_LENGTH:
        # Whole lines: half a row would break the table above it.
        lines.pop()
    return "\n".join([*lines, CUT])


def without_tables(note: str) -> str:
    """The note with a list in place of every table, for a page that shows tables as bars.

    A row becomes `- round 2, action reinject, ...`: every cell after its head.
    """
    lines: list[str] = []
    heads: list[str] = []
    for line in note.splitlines():
        if not line.startswith("| "):
            heads = []
            lines.append(line)
            continue
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not heads:
            heads = cells
        elif set(line) - set("|- "):
            lines.append("- " + ", ".join(f"{h} {c}" for h, c in zip(heads, cells, strict=True)))
    return "\n".join(lines)


def _narrow(found: re.Match[str]) -> str:
    return " " if found[0].startswith(" ") else "---"


def note_of_round(run: RunData, round: RoundData) -> str:
    """The decision in one sentence, what was done next, whether it helped."""
    step = next(step for step in steps(run) if step.round == round.number)
    mode = f" ({step.mode})" if step.mode else ""
    why = "; ".join(step.reasons) or "no reason was recorded"
    parts = [f"**{step.action}**{mode}{_undone(step)}: {why}."]
    if step.covered:
        parts.append(f"{step.covered[:1].upper()}{step.covered[1:]}.")
    if step.then:
        parts.append(f"**Done next:** {'; '.join(step.then)}.")
    if did := helped(run, step):
        parts.append(f"**Did it help:** {did}.")
    return fitted("\n\n".join(parts))


def _best(run: RunData) -> str:
    best = run.round(run.best_round)
    if best is None:
        return "none yet: no round is fit to be called best."
    return f"round {best.number} ({best_by(best)}), `{run.checkpoint(best.number)}`."


def _steered(run: RunData, step: Step) -> dict[str, str]:
    row = {
        "round": str(step.round),
        "action": f"{step.action}{_undone(step)}",
        "why": "; ".join(step.reasons[:2]),
        "done next": "; ".join(step.then) or DASH,
        "did it help": helped(run, step) or DASH,
    }
    # A bar would end the cell.
    return {head: " ".join(cell.replace("|", "¦").split()) for head, cell in row.items()}


def _undone(step: Step) -> str:
    return "" if step.carried_out else ", not carried out"
