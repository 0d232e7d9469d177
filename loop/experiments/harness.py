"""Run a study's arms over seeds on a few warm worker processes.

What is finished is kept, what was cut off goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop.engines import children
from ouroloop.loop.errors import EngineError, UserError
from ouroloop.loop.experiments import results, rounds
from ouroloop.loop.experiments.study import Run, Study
from ouroloop.loop.recipes import automatic, extensions, refusals
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.progress import LiveProgress


@dataclass(frozen=True)
class Place:
    """Where a study is, and where it writes.

    Attributes:
        source: the study's folder or file; worker processes load it from there.
        runs: the folder of its runs; `runs/tables` takes a small table of each when it is finished.
        results: the one results file.
        quick: whether the runs are those of `--quick`.
    """

    source: Path
    runs: Path
    results: Path
    quick: bool = False

    @property
    def tables(self) -> Path:
        """The folder of the finished runs' small tables."""
        return self.runs / "tables"


def run(
    study: Study, place: Place, arms: Sequence[str], seeds: Sequence[int], jobs: int = 1
) -> None:
    """Bring every arm of every seed to its end, at most `jobs` at a time: see `next_run`.

    The results file takes what is finished, also when a run fails. Arms that others start from are
    run too. Called again, everything goes on from where it was.

    Raises:
        EngineError: a run failed; the others that were under way are ended first.
    """
    # A terminated study ends through `finally` below, so that no worker outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [(arm, seed) for seed in seeds for arm in study.in_order(arms)]
    results.collect(study, place.tables, place.results)
    todo = unfinished(study, place, wanted)
    # Hours of runs: in a log, a line for every finished run is enough.
    with LiveProgress(every_seconds=3600) as progress:
        progress.say(
            f"{study.name}: {len(wanted) - len(todo)} of {len(wanted)} runs are finished; results"
            f" in {place.results}"
        )
        if not todo:
            return
        place.tables.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        num = min(jobs, len(todo))
        workers = [Worker.start(place, max(1, (os.cpu_count() or 1) // num)) for _ in range(num)]
        try:
            _work(study, place, workers, todo, progress, len(wanted))
        finally:
            # Also after a failure: the runs that did finish are results.
            for worker in workers:
                worker.end()
            results.collect(study, place.tables, place.results, again=todo)
        progress.say(
            f"{study.name}: {len(todo)} runs in {(time.monotonic() - started) / 60:.1f} minutes,"
            f" {len(workers)} at a time"
        )


def refuse_wrong_arms(
    study: Study, place: Place, arms: Sequence[str], seeds: Sequence[int]
) -> None:
    """Check the recipe of every arm that would run, before the first one does.

    An arm that starts from another one, or from what the study makes, is checked as far as it can
    be without them.

    Raises:
        UserError: the study, the arm and the key that is wrong.
    """
    for arm in study.arms:
        if unknown := [needed for needed in study.needs(arm) if needed not in study.arms]:
            raise UserError(
                f"{place.source}: arm {arm}: '@{unknown[0]}' names no arm. There are"
                f" {', '.join(study.arms)}."
            )
    wanted = [(arm, seed) for seed in seeds for arm in study.in_order(arms)]
    # Seeds differ in what they draw alone: one of each arm is enough.
    for arm, seed in dict(unfinished(study, place, wanted)).items():
        where = f"{place.source}: arm {arm}"
        recipe = resolve(study.keys(arm, seed, place.quick), where)
        try:
            if study.refers(arm):
                extensions.check_all(recipe)
                # What `auto` becomes depends on the model, which is not there yet.
                peft = automatic.LORA if recipe.peft == automatic.AUTO else recipe.peft
                refusals.check_sections(recipe.model_copy(update={"peft": peft}))
            else:
                prepare(recipe)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def unfinished(study: Study, place: Place, wanted: Sequence[Run]) -> list[Run]:
    """The wanted runs without results, and those whose checkpoint one of them starts from.

    Results may come from another machine, a checkpoint must be here: an arm that others start from
    runs again where only its results are there.
    """
    done = {(arm, s) for arm, runs in results.read(study, place.results).items() for s in runs}
    todo = {run for run in wanted if run not in done}
    for arm, seed in reversed(wanted):  # an arm comes after those that it needs
        if (arm, seed) in todo:
            needed = {(need, seed) for need in study.needs(arm)}
            todo |= {run for run in needed if not results.table_of(place.tables, run).exists()}
    return [run for run in wanted if run in todo]


@dataclass
class Worker:
    """One `ouroloop.loop.experiments.worker` process and what it is busy with."""

    process: subprocess.Popen[str]
    log: Path
    busy: Run | None = None
    since: float = 0.0

    @classmethod
    def start(cls, place: Place, threads: int) -> Worker:
        """A fresh process with so many threads; its output goes to a log beside the runs."""
        log = place.runs / "worker.log"
        command = [
            sys.executable,
            "-m",
            "ouroloop.loop.experiments.worker",
            str(place.source),
            str(place.runs),
            *(["--quick"] if place.quick else []),
        ]
        # A session of its own, so that its engine processes end with it (`end`). The cores are
        # divided: workers whose threads compete for them are far slower (LOG.md, 2026-11-22), and
        # one that has a real model to itself would leave the others idle.
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env={**children.environment(), "OMP_NUM_THREADS": str(threads)},
            )
        return cls(process, log)

    def give(self, run: Run) -> None:
        """Begin a run."""
        assert self.process.stdin is not None
        self.busy, self.since = run, time.monotonic()
        self.process.stdin.write(json.dumps({"arm": run[0], "seed": run[1]}) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End the process and all of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _work(
    study: Study,
    place: Place,
    workers: Sequence[Worker],
    todo: list[Run],
    progress: LiveProgress,
    total: int,
) -> None:
    """Hand out runs whose needs are there to workers that are free, until all are done."""
    waiting = selectors.DefaultSelector()
    for worker in workers:
        assert worker.process.stdout is not None
        waiting.register(worker.process.stdout, selectors.EVENT_READ, worker)
    left = list(todo)
    # A worker without a run that can begin stays idle until another one's run has made it possible.
    while left or any(w.busy for w in workers):
        for worker in (w for w in workers if w.busy is None):
            chosen = next_run(study, place, left, [w.busy for w in workers if w.busy])
            if chosen is not None:
                left.remove(chosen)
                worker.give(chosen)
        names = ", ".join(f"{w.busy[0]}-{w.busy[1]}" for w in workers if w.busy)
        progress("runs", total - len(left) - sum(w.busy is not None for w in workers), total, names)
        for key, _ in waiting.select():
            _receive(key.data, place, progress)
    progress("runs", total, total)


def next_run(study: Study, place: Place, left: Sequence[Run], busy: Sequence[Run]) -> Run | None:
    """The run to begin beside those under way; None where all that are left need one of them.

    Rather of a seed that nobody is at: an arm that begins beside its twin is lent nothing by it.
    """
    ready = [run for run in left if _can_begin(study, place, run)]
    taken = {seed for _, seed in busy}
    return next((run for run in ready if run[1] not in taken), ready[0] if ready else None)


def _can_begin(study: Study, place: Place, run: Run) -> bool:
    """Whether every arm that this one starts from is finished here."""
    arm, seed = run
    return all(results.table_of(place.tables, (need, seed)).exists() for need in study.needs(arm))


def _receive(worker: Worker, place: Place, progress: LiveProgress) -> None:
    """One reply of a worker."""
    assert worker.process.stdout is not None and worker.busy is not None
    name, minutes = f"{worker.busy[0]}-{worker.busy[1]}", (time.monotonic() - worker.since) / 60
    # An empty line: the process closed its output, which it does only when it ends.
    line = worker.process.stdout.readline()
    if line:
        answer = json.loads(line)
    else:
        answer = {"error": f"its process ended; the last lines of {worker.log} say why"}
    if "error" in answer:
        raise EngineError(
            f"{name} failed after {minutes:.1f} minutes: {answer['error']}\nWhat was finished is"
            " kept; the same command goes on."
        )
    last = rounds.read(results.table_of(place.tables, worker.busy))[-1]
    shown = [f"{key} {value:.3g}" for key, value in last.items() if isinstance(value, float)]
    progress.say(f"{name}: {minutes:.1f} minutes; {', '.join(shown[:8])}")
    worker.busy = None
