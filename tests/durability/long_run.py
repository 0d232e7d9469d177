"""A hundred rounds: the last ones take as long, and as much memory, as the early ones."""

from __future__ import annotations

import json
import statistics
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import worlds
from trials import Fault, Trial
from worlds import NAME, Child, finished, write_recipe

from ouroloop.loop.folder.store import Store

NUM_ROUNDS = 100
# What later rounds may cost beyond early ones; the machine's own noise is most of it.
MOST_TIME, MOST_MIB = 1.5, 30.0
SMALL = {
    "sampling": {"problems_per_round": 10, "samples_per_problem": 2, "max_tokens": 96},
    "probe": {
        "problems": 12,
        "family_problems": 1,
        "samples": 2,
        "baseline_samples": 4,
        "critiques": 4,
        "texts": 4,
        "audit_items": 4,
        "pass_at": 2,
        "majority": 2,
    },
    "refine": {"critique": False, "revisions": 0},
    "monitors": {"guard": False},
}


def _play(root: Path) -> int:
    """The run; every committed round adds (CPU seconds, resident MiB) to a file."""
    plain = Store.event
    rounds = root / "rounds.jsonl"

    # Not called `name`: that is one of the facts of `run_created`.
    def event(self: Store, what: str, **facts: object) -> None:
        plain(self, what, **facts)  # type: ignore[arg-type]
        if what == "round_committed":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with rounds.open("a") as file:
                file.write(json.dumps([time.process_time(), pages * 4096 / 2**20]) + "\n")

    Store.event = event  # type: ignore[method-assign, assignment]
    return worlds.play(root)


def hundred(num_rounds: int, folder: Path, seed: str, number: int) -> Trial:
    """Rounds and what they cost."""
    root = folder / "run"
    write_recipe(root, rounds=num_rounds, **SMALL)
    child = Child.of(root, lambda: _play(root))
    code = child.wait(3600)
    if code is None:
        child.end()
    if not finished(code):
        return Trial("100 rounds", number, num_rounds, 0, note=f"{code}: {child.text()[-300:]}")
    lines = [json.loads(line) for line in (root / "rounds.jsonl").read_text().splitlines()]
    seconds = [after[0] - before[0] for before, after in pairwise(lines)]
    fifth = len(seconds) // 5
    early, late = (
        statistics.median(part) for part in (seconds[fifth : 2 * fifth], seconds[-fifth:])
    )
    grown = lines[-1][1] - lines[fifth][1]
    num = len(list((root / "runs" / NAME / "rounds").glob("*/MANIFEST.json"))) - 1
    is_flat = late <= MOST_TIME * early and grown <= MOST_MIB and num == num_rounds
    note = (
        f"{num} rounds: {early:.3f} s of CPU a round in the second fifth, {late:.3f} in the last;"
        f" {grown:+.1f} MiB from then to the end"
    )
    return Trial("100 rounds", number, num, num if is_flat else 0, note=note)


FAULTS = (
    Fault(
        "100 rounds",
        f"time of a late round at most {MOST_TIME:g} times that of an early one, memory at most"
        f" {MOST_MIB:g} MiB more",
        partial(hundred, NUM_ROUNDS),
        enough=NUM_ROUNDS,
        quick=0,
    ),
)
