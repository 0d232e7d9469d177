"""Every file of a run compared with what its manifests promise: `ouroloop verify RUN`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ouroloop.loop.folder.integrity import verify
from ouroloop.loop.folder.ledger import open_round
from ouroloop.loop.folder.sums import Check, Status
from ouroloop.loop.views.progress import markdown

# (stage, done, total)
Progress = Callable[[str, int, int], None]
MEGABYTE = 10**6


def checks_of(run: Path, progress: Progress = lambda *_: None) -> list[Check]:
    """What was found of every file, those of the round at work too. Changes nothing."""

    def report(done: int, total: int) -> None:
        progress("hashing (MB)", done // MEGABYTE, -(-total // MEGABYTE))

    return [*verify(run, report=report), *open_round(run)]


def table(checks: list[Check]) -> str:
    """One row for each file, and a closing line."""
    rows = [
        {"round": check.round, "file": check.name, "status": check.status.value} for check in checks
    ]
    damaged = [check for check in checks if check.is_damaged]
    num_pruned = sum(check.status is Status.PRUNED for check in checks)
    counts = f"{len(checks)} files, {len(damaged)} damaged"
    if num_pruned:
        counts += f", {num_pruned} pruned (recipe key `keep`)"
    closing = [counts, *(f"  {check}" for check in damaged)]
    return "\n".join([markdown(rows), *closing])


def is_whole(checks: list[Check]) -> bool:
    """Whether every file is as it was written."""
    return not any(check.is_damaged for check in checks)
