"""Seconds of commands and of process trees, and a table of ratios. Knows no case."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
        said: the last line that the process printed.
    """

    wall: float
    cpu: float
    peak_mib: float = 0.0
    said: str = ""

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        peak = max(self.peak_mib, other.peak_mib)
        return Cost(self.wall + other.wall, self.cpu + other.cpu, peak)


@dataclass(frozen=True)
class Line:
    """One comparison: both sides did the same work in turns, A B A B.

    Attributes:
        name: its identity, for comparisons with an earlier result.
        what: the work, in words.
        against: what the other side is.
        ours: a value per turn, lower is better.
        theirs: a value per turn.
        unit: of the values: "s" by the clock, "s CPU" of processors.
        goal: the largest ratio that the project asks of itself; None: none was set.
        limit: the largest value that it asks of its own side; None: none was set.
    """

    name: str
    what: str
    against: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    unit: str = "s"
    goal: float | None = None
    limit: float | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over theirs, turn by turn."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median over the turns."""
        return statistics.median(self.ratios)

    @property
    def verdict(self) -> str:
        """The goal, and whether the median over the turns meets it; empty: none was set."""
        if self.goal is not None:
            found, most, unit = self.ratio, self.goal, ""
        elif self.limit is not None:
            found, most, unit = statistics.median(self.ours), self.limit, f" {self.unit}"
        else:
            return ""
        return f"at most {most:g}{unit}: {'met' if found <= most else 'missed'}"


@dataclass(frozen=True)
class Measured:
    """A line as it is kept.

    Attributes:
        line: what was found.
        commit: of the code.
        day: when.
        load: the machine's load average at the end; by the clock an idle machine's values count.
    """

    line: Line
    commit: str
    day: str
    load: float

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Measured:
        """From its entry in the results file."""
        line = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in kept["line"].items()
        }
        return cls(**{**kept, "line": Line(**line)})


# Runs a command in a process of its own, for the system adds up what a process's children took.
WATCHER = """
import resource, subprocess, sys
child = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print((child.stdout.strip().splitlines() or [""])[-1])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(child.returncode)
"""


def whole(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end: start and end of the process and its children included.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-S", "-c", WATCHER, *command],
        cwd=ROOT,
        env=environment(env),
        text=True,
        capture_output=True,
        check=False,
    )
    wall = time.monotonic() - started
    if done.returncode not in (0, 3):  # 3: a run that a monitor halted has done its work
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    said, used = done.stdout.splitlines()
    cpu, peak = map(float, used.split())
    return Cost(wall, cpu, peak, said)


@dataclass(frozen=True)
class Side:
    """What a side of a comparison took.

    Attributes:
        work: the work alone.
        whole: with the start of the process, its imports and its end.
        found: what else the side says.
    """

    work: Cost
    whole: Cost
    found: Mapping[str, float]


def side(name: str, **given: Any) -> Side:
    """One of `sides` in a process of its own."""
    cost = whole([sys.executable, "-m", "tools.bench.sides", name, json.dumps(given, default=str)])
    found = json.loads(cost.said)
    return Side(Cost(found["seconds"], found["cpu"]), cost, found)


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
    return sum(cpu_by_process(pid).values())


def cpu_by_process(pid: int) -> dict[str, float]:
    """The same by the module that a process runs; what it outlived is named after it."""
    parent_of, used, outlived = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        one = int(entry.name)
        parent_of[one] = int(fields[1])
        used[one], outlived[one] = (sum(map(int, fields[i : i + 2])) for i in (11, 13))
    found: dict[str, float] = {}
    wave = {pid}
    while wave:
        for one in wave & used.keys():
            name = _module(one)
            for what, ticks in ((name, used[one]), (f"ended in {name}", outlived[one])):
                found[what] = found.get(what, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
        wave = {child for child, parent in parent_of.items() if parent in wave}
    return found


def _module(pid: int) -> str:
    """The last part of the module that a Python process runs; its program otherwise."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        words = []
    if "-m" in words:
        return words[words.index("-m") + 1].rpartition(".")[2]
    # One that ended and was not waited for yet has no words.
    return words[0].rpartition("/")[2] if any(words) else "ended"


def both_clocks(
    name: str,
    what: str,
    against: str,
    ours: Sequence[Cost],
    theirs: Sequence[Cost],
    goal: float | None = None,
) -> Iterator[Line]:
    """A line by the clock and one by processor seconds."""
    for end, unit in (("", "s"), ("/cpu", "s CPU")):
        sides = [tuple(cost.cpu if end else cost.wall for cost in side) for side in (ours, theirs)]
        yield Line(name + end, what, against, *sides, unit=unit, goal=goal)


HEAD = """| work | beside | ours | theirs | ratio | range | goal | load |
|---|---|--:|--:|--:|---|---|--:|"""


def row(measured: Measured) -> str:
    """A row of the Markdown table."""
    line = measured.line
    low, high = min(line.ratios), max(line.ratios)
    ours, theirs = (f"{statistics.median(x):.3g} {line.unit}" for x in (line.ours, line.theirs))
    return (
        f"| {line.what} | {line.against} | {ours} | {theirs} | **{line.ratio:.2f}** |"
        f" {low:.2f} to {high:.2f} | {line.verdict} | {measured.load:.0f} |"
    )


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
