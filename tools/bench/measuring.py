"""Seconds of commands and of process trees, and a table of ratios. Knows no case."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# A ratio of an idle machine repeats within a tenth; a quarter is no noise.
MARGIN = 0.25


@dataclass(frozen=True)
class Cost:
    """What something took.

    Attributes:
        wall: seconds by the clock.
        cpu: processor seconds of the process and all its children.
        peak_mib: largest memory of any one process; 0: not measured.
        said: what a measuring process printed last.
    """

    wall: float
    cpu: float
    peak_mib: float = 0.0
    said: str = ""


@dataclass(frozen=True)
class Line:
    """One comparison: both sides did the same work in turns, A B A B.

    Attributes:
        name: its identity, for comparisons with an earlier result.
        what: the work, in words.
        against: what the other side is.
        ours: a value per turn, lower is better.
        theirs: a value per turn.
        unit: of the values.
        goal: the largest ratio that the project asks of itself; None: none was set.
    """

    name: str
    what: str
    against: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    unit: str = "s"
    goal: float | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over theirs, turn by turn."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median over the turns."""
        return statistics.median(self.ratios)


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    started = time.monotonic()
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(env),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = child.communicate()
    wall = time.monotonic() - started
    if child.returncode not in (0, 3):  # 3: a run that a monitor halted has done its work
        raise RuntimeError(f"{' '.join(command)}: exit {child.returncode}\n{errors[-2000:]}")
    # The child has been waited for by `communicate`, so its own numbers come from what it says.
    return Cost(wall, float("nan"), said=(out.strip().splitlines() or [""])[-1])


def whole(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """The same with processor time and memory, start and end of the process included."""
    watcher = "import resource as r, subprocess as s, sys; c = s.run(sys.argv[1:]).returncode; \
u = r.getrusage(r.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1024); \
sys.exit(c)"
    cost = run([sys.executable, "-S", "-c", watcher, *command], env)
    cpu, peak = map(float, cost.said.split())
    return Cost(cost.wall, cpu, peak)


def side(name: str, **given: Any) -> dict[str, float]:
    """One of `sides` in a process of its own; what it measured itself, and the whole process."""
    cost = run([sys.executable, "-m", "tools.bench.sides", name, json.dumps(given, default=str)])
    return {"whole": cost.wall, **json.loads(cost.said)}


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with this checkout's code, and threads that sleep while they wait."""
    wanted = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**wanted, **os.environ, **(more or {}), "PYTHONPATH": str(ROOT)}


def tree_cpu(pid: int) -> float:
    """Processor seconds of a process, of its living descendants, and of all that they outlived."""
    parent_of, used = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parent_of[int(entry.name)] = int(fields[1])
        used[int(entry.name)] = sum(map(int, fields[11:15]))
    total, wave = 0, {pid}
    while wave:
        total += sum(used.get(one, 0) for one in wave)
        wave = {child for child, parent in parent_of.items() if parent in wave}
    return total / os.sysconf("SC_CLK_TCK")


def table(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [
        "| work | beside | ours | theirs | ratio | range | goal |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for line in lines:
        low, high = min(line.ratios), max(line.ratios)
        ours, theirs = (f"{statistics.median(x):.3g} {line.unit}" for x in (line.ours, line.theirs))
        goal = "" if line.goal is None else f"{line.goal:g}"
        rows.append(
            f"| {line.what} | {line.against} | {ours} | {theirs} | **{line.ratio:.2f}** |"
            f" {low:.2f} to {high:.2f} | {goal} |"
        )
    return "\n".join(rows)


def worsened(lines: Sequence[Line], before: Mapping[str, float]) -> list[str]:
    """A sentence for each line whose ratio is larger than before by more than the margin."""
    found = []
    for line in lines:
        was = before.get(line.name)
        if was is not None and line.ratio > was * (1 + MARGIN):
            found.append(
                f"{line.name}: ratio {line.ratio:.2f}, {was:.2f} in the last results; expected at"
                f" most {was * (1 + MARGIN):.2f}. Is the machine idle? Then find what got slower."
            )
    return found
