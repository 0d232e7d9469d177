"""A whole warm round of a real run: its seconds, and what it asked and trained on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools.bench.measuring import ROOT, Cost, environment, tree_cpu
from tools.bench.recording import REQUESTS

# Round 1 is the first that trains, and still starts the trainer; round 2 is as all later ones.
WARM = 2
# Between two looks at the run's events: a hundredth of a round.
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class WarmRound:
    """One warm round. requests: its lines of what the engine was asked."""

    cost: Cost
    run: Path
    requests: Path

    @property
    def job(self) -> Path:
        """The round's training job."""
        return self.run / "rounds" / f"{WARM:03d}" / "job.json"

    @property
    def model(self) -> Path:
        """The checkpoint that the round's samples were drawn from."""
        return self.run / "rounds" / f"{WARM - 1:03d}" / "checkpoint"


def warm_round(folder: Path, settings: list[str]) -> WarmRound:
    """Run a recipe to its second round, which is measured from commit to commit.

    Raises:
        RuntimeError: the run failed.
    """
    folder.mkdir(parents=True)
    asked = folder / "requests.jsonl"
    asked.touch()
    changes = [f"--set={x}" for x in (*settings, "name=bench", f"rounds={WARM}", "keep.last=9")]
    kind = f"{ROOT / 'tools/bench/recording.py'}:engine"
    command = [sys.executable, "-m", "ouroloop.loop", "run", "demo", "--runs", str(folder)]
    log = folder / "run.log"
    with log.open("w") as out:
        run = subprocess.Popen(
            [*command, *changes, f"--set=engine.kind={kind}"],
            cwd=ROOT,
            env=environment({REQUESTS: str(asked)}),
            stdout=out,
            stderr=out,
        )
    marks: list[tuple[float, float, int]] = []
    events = folder / "bench" / "events.jsonl"
    try:
        while run.poll() is None and len(marks) <= WARM:
            time.sleep(POLL_SECONDS)
            if _num_committed(events) > len(marks):
                marks.append((time.monotonic(), tree_cpu(run.pid), asked.stat().st_size))
        run.wait()
    finally:
        # An interrupted benchmark leaves no run behind; a run ends its own children.
        run.terminate()
    if len(marks) <= WARM:
        raise RuntimeError(f"the benchmark's run failed:\n{log.read_text()[-2000:]}")
    (wall, cpu, first), (end, cpu_end, last) = marks[WARM - 1 : WARM + 1]
    lines = asked.read_bytes()[first:last]
    asked.write_bytes(lines)
    return WarmRound(Cost(end - wall, cpu_end - cpu), folder / "bench", asked)


def _num_committed(events: Path) -> int:
    if not events.exists():
        return 0
    names = (
        json.loads(line)["event"]
        for line in events.read_text().splitlines(keepends=False)
        if line.endswith("}")
    )
    return sum(name == "round_committed" for name in names)
