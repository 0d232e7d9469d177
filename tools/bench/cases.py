"""What is compared with what. Every case is a function that gives lines; all turns are A B A B."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.bench import traces
from tools.bench.measuring import ROOT, Line, run, side, whole
from tools.bench.rounds import WarmRound, warm_round

PYTHON = sys.executable
OUROLOOP = (PYTHON, "-m", "ouroloop.loop")
WORLD = ROOT / "evals" / "worlds" / "arithmetic"


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        folder: for whatever the cases write.
        turns: of each side.
        quick: minutes instead of an hour; smaller work, the same cases.
        million: a million traces, too.
    """

    folder: Path
    turns: int = 3
    quick: bool = False
    million: bool = False


def sampling(options: Options) -> Iterator[Line]:
    """Both engines in one process, turn by turn."""
    num = 64 if options.quick else 160
    command = [PYTHON, str(ROOT / "tools/sampling_speed.py"), str(WORLD / "base"), "--json"]
    found = json.loads(
        run([*command, "--requests", str(num), "--repeats", str(options.turns)]).said
    )
    ours, theirs = ([1000 / rate for rate in found[name]] for name in ("loop", "bare"))
    what = f"sampling {num} requests, per 1,000 tokens"
    yield Line("sampling", what, "bare vLLM", tuple(ours), tuple(theirs), goal=1.05)


# "0 ours  123.4 tokens/s (... processor 5.6 s, ...": what tools/training_speed.py prints.
MEASURED = re.compile(r"^\d+ (\w+) +([\d.]+) tokens/s .*processor ([\d.]+) s", re.MULTILINE)


def training(options: Options) -> Iterator[Line]:
    """A round's training in turn with a bare TRL script, and with a plain loop of torch."""
    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask

    num = 96 if options.quick else 384
    problems = [p for p in ArithmeticTask().problems("train") if p.solution][:num]
    data = options.folder / "training.jsonl"
    rows = [{"question": p.question, "solution": p.solution} for p in problems]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [PYTHON, str(ROOT / "tools/training_speed.py"), str(WORLD / "assistant"), str(data)]
    log = options.folder / "training.log"
    arguments = [*command, "--rows", str(num), "--repeats", str(options.turns)]
    run(["bash", "-c", '"${@:2}" > "$1"', "bash", str(log), *arguments])
    speeds: dict[str, list[float]] = {}
    for name, rate, _ in MEASURED.findall(log.read_text(encoding="utf-8")):
        speeds.setdefault(name, []).append(1000 / float(rate))
    beside = {"trl": ("bare TRL", 1.05), "plain": ("a plain loop of torch", 1.11)}
    for name, (against, goal) in beside.items():
        if name in speeds:
            what = f"training on {num} rows, per 1,000 tokens"
            yield Line(
                f"training/{name}",
                what,
                against,
                tuple(speeds["ours"]),
                tuple(speeds[name]),
                goal=goal,
            )


def rounds(options: Options) -> Iterator[Line]:
    """A warm round beside its parts bare, and beside what one would write instead."""
    settings = ["monitors.guard=false"]
    if options.quick:
        settings += ["sampling.problems_per_round=40", "probe.problems=24", "probe.critiques=8"]
    ours, parts, scripts, restarts = [], [], [], []
    for turn in range(options.turns):
        warm = warm_round(options.folder / f"turn{turn}", settings)
        ours.append(warm.cost.wall)
        bare, trained = _bare(warm)
        written = side("transformers", requests=warm.requests, model=warm.model)
        parts.append(bare["seconds"] + trained["seconds"])
        # A script's model stays loaded, and so does its trainer's process: no start is counted.
        scripts.append(written["seconds"] + trained["seconds"])
        restarts.append(bare["whole"] + trained["whole"])
    what = "a warm round"
    sides = (
        ("parts", "bare vLLM + bare TRL, nothing else", parts, 1.05),
        ("script", "a warm script: transformers generate + TRL", scripts, 0.5),
        ("restarts", "a loop that starts vLLM and TRL every round", restarts, 0.5),
    )
    for name, against, theirs, goal in sides:
        yield Line(f"round/{name}", what, against, tuple(ours), tuple(theirs), goal=goal)
    yield from _tracking(warm, options.turns)


def _bare(warm: WarmRound) -> tuple[dict[str, float], dict[str, float]]:
    sampled = side("vllm", requests=warm.requests, model=warm.model)
    return sampled, side("trl", job=warm.job)


def _tracking(warm: WarmRound, turns: int) -> Iterator[Line]:
    """What a round's way to MLflow takes in its own process, and what the loop waits for it."""
    waits, syncs, imports = [], [], []
    for _ in range(turns):
        (warm.run / "tracking.json").unlink(missing_ok=True)
        waits.append(side("start_sync", run=str(warm.run))["seconds"])
        # All rounds anew, so that the work is the same in each turn.
        (warm.run / "tracking.json").unlink(missing_ok=True)
        synced = whole([*OUROLOOP, "sync", "bench", "--runs", str(warm.run.parent)])
        syncs.append(synced.cpu / 3)
        imports.append(whole([PYTHON, "-c", "import mlflow"]).cpu)
    yield Line(
        "tracking/wait",
        "the loop's wait for MLflow, a round",
        "a warm round",
        tuple(waits),
        (warm.cost.wall,) * turns,
        goal=0.01,
    )
    yield Line(
        "tracking/sync",
        "logging a round to MLflow, in its own process",
        "import mlflow",
        tuple(syncs),
        tuple(imports),
        unit="s CPU",
    )


def monitors(options: Options) -> Iterator[Line]:
    """Time beside ten times that of a tenth of the traces; memory of the largest."""
    sizes = [10_000, 100_000, *([1_000_000] if options.million else [])]
    paths = {}
    for size in sizes:
        folder = options.folder / f"traces{size}"
        folder.mkdir()
        paths[size] = list(map(str, traces.write(folder, size)))
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(options.turns):
        for size in sizes:
            found[size].append(side("monitors", paths=paths[size]))
    for fewer, size in pairwise(sizes):
        ours = tuple(one["cpu"] for one in found[size])
        scaled = tuple(size / fewer * one["cpu"] for one in found[fewer])
        memory = max(one["peak_mib"] for one in found[size])
        what = f"monitors on {size:,} traces ({memory:,.0f} MiB)"
        # A log-log slope of 1.1 is a ratio of 10 ** 0.1.
        yield Line(
            f"monitors/{size}",
            what,
            f"{size // fewer} x those on {fewer:,}",
            ours,
            scaled,
            unit="s CPU",
            goal=1.26,
        )


def start_up(options: Options) -> Iterator[Line]:
    """Whole processes, in processor seconds: they wait for nothing."""
    numeric = "import numpy, scipy.special, scipy.sparse"
    judge = "from ouroloop.monitors import DecisionRule, follow, measure_all, read_traces"
    beside = {
        "help": ([*OUROLOOP, "--help"], [PYTHON, "-c", "pass"], "python -c pass", 0.1),
        "monitors": ([PYTHON, "-c", judge], [PYTHON, "-c", numeric], numeric, None),
    }
    runs = options.folder / "turn0"
    if (runs / "bench").exists():
        shown = [*OUROLOOP, "watch", "bench", "--runs", str(runs)]
        bare = "import numpy, pyarrow.parquet, rich.table, rich.live"
        beside["watch"] = (shown, [PYTHON, "-c", bare], bare, 0.5)
    for name, (ours, theirs, against, seconds) in beside.items():
        turns = [(whole(ours).cpu, whole(theirs).cpu) for _ in range(max(3, options.turns))]
        what = {"help": "ouroloop --help", "monitors": "import of all that judges traces"}
        said = what.get(name, "ouroloop watch of a finished run")
        if seconds is not None:
            said += f" (goal: {seconds} s)"
        yield Line(
            f"start/{name}",
            said,
            f"`{against}`",
            *map(tuple, zip(*turns, strict=True)),
            unit="s CPU",
        )


# In this order: `start_up` watches the run that `rounds` made.
CASES: dict[str, Callable[[Options], Iterator[Line]]] = {
    "monitors": monitors,
    "sampling": sampling,
    "training": training,
    "rounds": rounds,
    "start": start_up,
}
