"""What is compared with what. Every case is a function that gives lines; all turns are A B A B."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench import traces
from tools.bench.measuring import ROOT, Cost, Line, Side, both_clocks, side, whole
from tools.bench.rounds import WarmRound, warm_round

if TYPE_CHECKING:
    from ouroloop.evals.tasks import Problem

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
        whole([*command, "--requests", str(num), "--repeats", str(options.turns)]).said
    )
    ours, theirs = (per_1000_tokens(found[name]) for name in ("loop", "bare"))
    what = f"sampling {num} requests, per 1,000 tokens"
    yield from both_clocks("sampling", what, "bare vLLM", ours, theirs, goal=1.05)


def training(options: Options) -> Iterator[Line]:
    """A round's training in turn with a bare TRL script, and with a plain loop of torch."""
    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask

    num = 96 if options.quick else 384
    data = _problems(options.folder, ArithmeticTask().problems("train"))
    given = [str(WORLD / "assistant"), str(data), "--rows", str(num)]
    yield from _trained("training", f"training on {num} rows", given, options)


def real_training(options: Options) -> Iterator[Line]:
    """The same on SmolLM2-135M and the small world's texts: nothing where it was never fetched."""
    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
    from ouroloop.loop.models.package import in_cache

    model = in_cache("smollm2-135m")
    if model is None:
        print("SmolLM2 is not here: `make demo-real` fetches it, and this case measures it then")
        return
    num = 16 if options.quick else 32
    data = _problems(options.folder, ArithmeticTask().problems("train"))
    kinds = {"LoRA": ["--peft"]} | ({} if options.quick else {"all weights": []})
    for kind, more in kinds.items():
        what = f"training SmolLM2-135M on {num} rows, {kind}"
        given = [str(model), str(data), "--rows", str(num), *more]
        yield from _trained(
            f"training/real/{kind.replace(' ', '_')}", what, given, options, is_real=True
        )


def _problems(folder: Path, problems: Sequence[Problem]) -> Path:
    """A file of problems with solutions, as tools/training_speed.py reads it."""
    rows = [{"question": p.question, "solution": p.solution} for p in problems if p.solution]
    data = folder / "training.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data


def _trained(
    name: str, what: str, given: Sequence[str], options: Options, is_real: bool = False
) -> Iterator[Line]:
    command = [PYTHON, str(ROOT / "tools/training_speed.py"), *given, "--json"]
    found = json.loads(whole([*command, "--repeats", str(options.turns)]).said)
    # At least 0.95 and, where the work outweighs a step's bookkeeping, 0.9 of the other's speed.
    plain = 1.11 if is_real else None
    beside = {"trl": ("bare TRL", 1.05), "plain": ("a plain loop of torch", plain)}
    for other, (against, goal) in beside.items():
        ours, theirs = (per_1000_tokens(found[side]) for side in ("ours", other))
        said = f"{what}, per 1,000 tokens"
        yield from both_clocks(f"{name}/{other}", said, against, ours, theirs, goal)


def per_1000_tokens(found: Sequence[Mapping[str, float]]) -> list[Cost]:
    """Of measurements with `seconds`, `cpu_seconds` and `tokens`."""
    return [
        Cost(1000 * one["seconds"] / one["tokens"], 1000 * one["cpu_seconds"] / one["tokens"])
        for one in found
    ]


# A demo of half its size: the same steps in half the time.
HALF = [
    "sampling.problems_per_round=100",
    "probe.problems=60",
    "probe.critiques=30",
    "probe.baseline_samples=8",
]


def rounds(options: Options) -> Iterator[Line]:
    """A warm round of the demo, and what tracking takes of it."""
    settings = ["monitors.guard=false", "monitors.baselines=[0]", *(HALF if options.quick else [])]
    runs: list[WarmRound] = []
    yield from _rounds("round", "a warm round of the demo", options, "demo", settings, runs)
    yield from _tracking(runs[-1], options.turns)


# A round of minutes in the place of a quarter of an hour.
SMALL = [
    "monitors.guard=false",
    "monitors.baselines=[0]",
    "sampling.problems_per_round=24",
    "dataset.min_examples=1",
    "probe.problems=24",
    "probe.baseline_samples=8",
]


def real_rounds(options: Options) -> Iterator[Line]:
    """The same of demo-real on SmolLM2-135M; nothing with --quick, or where its data is not."""
    if options.quick or "OUROLOOP_DATA" not in os.environ:
        print("demo_real's rounds: only without --quick, and with its data ($OUROLOOP_DATA)")
        return
    what = "a warm round on SmolLM2-135M"
    yield from _rounds("round/real", what, options, "demo_real", SMALL, [])


def _rounds(
    name: str,
    what: str,
    options: Options,
    recipe: str,
    settings: list[str],
    runs: list[WarmRound],
) -> Iterator[Line]:
    """Beside its parts bare, and beside what one would write instead; `runs` gets each run."""
    against: dict[str, list[Cost]] = {other: [] for other in BESIDE_A_ROUND}
    for turn in range(options.turns):
        warm = warm_round(options.folder / recipe / str(turn), recipe, settings)
        runs.append(warm)
        # Bare vLLM on a processor serves no adapter: it gets the model with the adapter merged.
        model = options.folder / recipe / "served"
        side("serve", model=warm.model, folder=model)
        sampled = side("vllm", requests=warm.requests, model=model, recipe=warm.recipe)
        trained = side("trl", job=warm.job)
        written = side("transformers", requests=warm.requests, model=model)
        against["parts"].append(sampled.work + trained.work)
        # A script's model stays loaded, and so does its trainer's process: no start is counted.
        against["script"].append(written.work + trained.work)
        against["restarts"].append(sampled.whole + trained.whole)
        print(warm.described(sampled.work, trained.work), flush=True)
    ours = [run.cost for run in runs]
    for other, (words, goal) in BESIDE_A_ROUND.items():
        yield from both_clocks(f"{name}/{other}", what, words, ours, against[other], goal)


BESIDE_A_ROUND = {
    "parts": ("bare vLLM + bare TRL, nothing else", 1.05),
    "script": ("a warm script: transformers generate + TRL", 0.5),
    "restarts": ("a loop that starts vLLM and TRL every round", 0.5),
}


def _tracking(warm: WarmRound, turns: int) -> Iterator[Line]:
    """What a round's way to MLflow takes in its own process, and what the loop waits for it."""
    waits, syncs, imports = [], [], []
    for _ in range(turns):
        (warm.run / "tracking.json").unlink(missing_ok=True)
        waits.append(side("start_sync", run=str(warm.run)).work.wall)
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
    found: dict[int, list[Side]] = {size: [] for size in sizes}
    for _ in range(options.turns):
        for size in sizes:
            found[size].append(side("monitors", paths=paths[size]))
    for fewer, size in pairwise(sizes):
        ours = tuple(one.work.cpu for one in found[size])
        scaled = tuple(size / fewer * one.work.cpu for one in found[fewer])
        memory = max(one.found["peak_mib"] for one in found[size])
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
    runs = options.folder / "demo" / "0"
    if (runs / "bench").exists():
        shown = [*OUROLOOP, "watch", "bench", "--runs", str(runs)]
        bare = "import numpy, pyarrow.parquet, rich.table, rich.live"
        beside["watch"] = (shown, [PYTHON, "-c", bare], bare, 0.5)
    for name, (ours, theirs, against, seconds) in beside.items():
        turns = [(whole(ours).cpu, whole(theirs).cpu) for _ in range(max(3, options.turns))]
        what = {"help": "ouroloop --help", "monitors": "import of all that judges traces"}
        yield Line(
            f"start/{name}",
            what.get(name, "ouroloop watch of a finished run"),
            f"`{against}`",
            *map(tuple, zip(*turns, strict=True)),
            unit="s CPU",
            limit=seconds,
        )


# In this order: `start_up` watches the run that `rounds` made.
CASES: dict[str, Callable[[Options], Iterator[Line]]] = {
    "monitors": monitors,
    "sampling": sampling,
    "training": training,
    "real_training": real_training,
    "rounds": rounds,
    "real_rounds": real_rounds,
    "start": start_up,
}
