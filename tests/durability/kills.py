"""The run's own process is ended at random moments, by SIGKILL, SIGINT and SIGTERM."""

from __future__ import annotations

import functools
import random
import signal
import time
from pathlib import Path

from trials import Fault, Trial
from worlds import EVENTS, NAME, Child, finished, lost_rows, play, reference, write_recipe
from worlds import recovery as recovered
from worlds import repeated as repeated_in

# Kills of one run at most: it has to finish some time.
MOST_KILLS = 12
# An interrupted run must be gone by then.
GONE_S = 2.0


def killed(folder: Path, seed: str, number: int) -> Trial:
    """A run that is killed at random moments until it finishes, beside an undisturbed one."""
    before, rng = reference(), random.Random(seed)
    root = folder / f"killed-{number}"
    write_recipe(root)
    num_kills, times, code = 0, [], None
    while not finished(code):
        child = Child.of(root, lambda: play(root))
        # The whole length of a run each time: early moments are as likely as late ones.
        limit = rng.uniform(0, before.seconds) if num_kills < MOST_KILLS else None
        code = child.wait(limit) if limit is not None else child.wait()
        if num_kills:
            times += recovered(root, child.started)
        if code is None:
            child.end(signal.SIGKILL)
            num_kills += 1
        elif not finished(code):
            return Trial("SIGKILL, scripted", number, num_kills, 0, note=child.text()[-300:])
    lost = lost_rows(root / "runs" / NAME, before.path)
    return Trial(
        "SIGKILL, scripted",
        number,
        num_kills,
        num_kills if not lost else 0,
        lost,
        repeated_in(root, before),
        tuple(times),
        f"{root} differs from the undisturbed run" if lost else "",
    )


def interrupted(name: str, number_of_signal: int, folder: Path, seed: str, number: int) -> Trial:
    """A run that gets a signal at a random moment: gone soon, and it says how to go on."""
    before, rng = reference(), random.Random(seed)
    root = folder / f"{name}-{number}"
    write_recipe(root)
    child = Child.of(root, lambda: play(root))
    # Before a run has begun there is nothing to resume.
    while not (root / "runs" / NAME / EVENTS).exists() and child.wait(0.01) is None:
        pass
    code = child.wait(rng.uniform(0, 0.9) * before.seconds)
    sent = time.monotonic()
    if not finished(code):
        code = child.end(number_of_signal)
    seconds = time.monotonic() - sent
    said = child.text()
    # The signal came too late, and nothing was tried: a run says its last words when it is over.
    if finished(code) or "* best round" in said:
        return Trial(name, number, 0, 0)
    faults = []
    if seconds > GONE_S:
        faults.append(f"gone after {seconds:.1f} s")
    if "ouroloop resume" not in said or "Traceback" in said:
        faults.append(f"said: {said[-200:]}")
    again = Child.of(root, lambda: play(root))
    if not finished(again.wait()):
        faults.append(f"not resumed: {again.text()[-200:]}")
    lost = lost_rows(root / "runs" / NAME, before.path)
    times = recovered(root, again.started)
    is_fine = not faults and not lost
    repeats = repeated_in(root, before)
    return Trial(name, number, 1, int(is_fine), lost, repeats, times, "; ".join(faults))


FAULTS = (
    Fault(
        "SIGKILL, scripted",
        "the process of a scripted run is killed at random moments until the run finishes",
        killed,
        enough=300,
        quick=3,
    ),
    Fault(
        "SIGINT",
        "Ctrl-C at a random moment of a scripted run",
        functools.partial(interrupted, "SIGINT", signal.SIGINT),
        enough=5,
    ),
    Fault(
        "SIGTERM",
        "`kill` at a random moment of a scripted run",
        functools.partial(interrupted, "SIGTERM", signal.SIGTERM),
        enough=5,
        quick=0,
    ),
)
