"""A whole warm round of a real run: its seconds, and what it asked and trained on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.bench.measuring import ROOT, Cost, cpu_by_process, environment
from tools.bench.recording import REQUESTS

# Round 1 is the first that trains, and still starts the trainer; round 2 is as all later ones.
WARM = 2
# Between two looks at the run's events: a hundredth of a round.
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class WarmRound:
    """One warm round.

    requests: its lines of what the engine was asked. used: processor seconds by process.
    """

    cost: Cost
    run: Path
    requests: Path
    used: Mapping[str, float]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by the clock of each stage of the round."""
        return seconds_by_stage(self.run / "events.jsonl", WARM)

    def described(self, sampled: Cost, trained: Cost) -> str:
        """Each stage's seconds by the clock, and those of the bare parts."""
        stages, used = (
            ", ".join(f"{name} {took:.2f}" for name, took in parts.items() if abs(took) >= 0.005)
            for parts in (self.stages, self.used)
        )
        bare = ", ".join(
            f"{name} {cost.wall:.1f} s ({cost.cpu:.1f} of processors)"
            for name, cost in {"bare vLLM": sampled, "bare TRL": trained}.items()
        )
        return (
            f"{self.cost.wall:.1f} s: {stages}; {self.cost.cpu:.1f} s of processors: {used}; {bare}"
        )

    @property
    def job(self) -> Path:
        """The round's training job."""
        return self.run / "rounds" / f"{WARM:03d}" / "job.json"

    @property
    def recipe(self) -> Path:
        """The run's recipe, whole."""
        return self.run / "recipe.json"

    @property
    def model(self) -> Path:
        """The checkpoint that the round's samples were drawn from."""
        return self.run / "rounds" / f"{WARM - 1:03d}" / "checkpoint"


def warm_round(folder: Path, recipe: str, settings: list[str]) -> WarmRound:
    """Run a recipe to its second round, which is measured from commit to commit.

    Raises:
        RuntimeError: the run failed.
    """
    folder.mkdir(parents=True)
    asked = folder / "requests.jsonl"
    asked.touch()
    changes = [f"--set={x}" for x in (*settings, "name=bench", f"rounds={WARM}", "keep.last=9")]
    kind = f"{ROOT / 'tools/bench/recording.py'}:engine"
    command = [sys.executable, "-m", "ouroloop.loop", "run", recipe, "--runs", str(folder)]
    log = folder / "run.log"
    with log.open("w") as out:
        run = subprocess.Popen(
            [*command, *changes, f"--set=engine.kind={kind}"],
            cwd=ROOT,
            env=environment({REQUESTS: str(asked)}),
            stdout=out,
            stderr=out,
        )
    # When each round was committed: the clock, processor seconds, and what had been asked.
    marks: list[tuple[float, dict[str, float], int]] = []
    events = folder / "bench" / "events.jsonl"
    try:
        while run.poll() is None and len(marks) <= WARM:
            time.sleep(POLL_SECONDS)
            if _num_committed(events) > len(marks):
                marks.append((time.monotonic(), cpu_by_process(run.pid), asked.stat().st_size))
        run.wait()
    finally:
        # An interrupted benchmark leaves no run behind; a run ends its own children.
        run.terminate()
    if len(marks) <= WARM:
        raise RuntimeError(f"the benchmark's run failed:\n{log.read_text()[-2000:]}")
    (wall, cpu, first), (end, cpu_end, last) = marks[WARM - 1 : WARM + 1]
    lines = asked.read_bytes()[first:last]
    asked.write_bytes(lines)
    # What ended meanwhile counts in its parent from then on, with all that it took before.
    used = {name: cpu_end.get(name, 0.0) - cpu.get(name, 0.0) for name in cpu | cpu_end}
    cost = Cost(end - wall, sum(used.values()))
    return WarmRound(cost, folder / "bench", asked, used)


def seconds_by_stage(events: Path, number: int) -> dict[str, float]:
    """From the beginning of a round to its commit, by what the run's events say was done.

    The time up to a stage's first step belongs to its start: loading, imports, building.
    """
    found: dict[str, float] = {}
    last = None
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("round") == number and event["event"] == "round_started":
            last = event["time"]
        if last is None:
            continue
        name = event["event"]
        if name == "progress":
            is_first = event["done"] <= 1 < event["total"]
            name = f"{event['stage']}, start" if is_first else event["stage"]
        found[name] = found.get(name, 0.0) + event["time"] - last
        last = event["time"]
        if name == "round_committed":
            break
    found.pop("round_started", None)
    return found


def _num_committed(events: Path) -> int:
    if not events.exists():
        return 0
    names = (
        json.loads(line)["event"]
        for line in events.read_text().splitlines(keepends=False)
        if line.endswith("}")
    )
    return sum(name == "round_committed" for name in names)
