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

from ouroloop.loop.engines.process import child_environment
from ouroloop.loop.errors import EngineError
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.study import Results, Study
from ouroloop.loop.views.progress import LiveProgress

Run = tuple[str, int]


def run(
    study: Study,
    arms: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    out: Path,
    jobs: int = 1,
    quick: bool = False,
) -> None:
    """Bring every arm of every seed to its end, seed by seed, at most `jobs` at a time.

    Out/<arm>-<seed>.csv appears as each finishes.

    Arms that others start from are run too. Called again, everything goes on from where it was.

    Raises:
        EngineError: a run failed; the others that were under way are ended first.
    """
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that a run does not outlive its study
    wanted = [(arm, seed) for seed in seeds for arm in study.in_order(arms)]
    todo = [run for run in wanted if not _table(out, run).exists()]
    with LiveProgress(every_seconds=3600) as progress:
        progress.say(
            f"{study.name}: {len(wanted) - len(todo)} of {len(wanted)} runs are finished; tables in"
            f" {out}"
        )
        if not todo:
            return
        runs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        workers = [Worker.start(study, runs, out, quick) for _ in range(min(jobs, len(todo)))]
        try:
            _work(study, workers, todo, out, progress, len(wanted))
        finally:
            for worker in workers:
                worker.end()
        progress.say(
            f"{study.name}: {len(todo)} runs in {(time.monotonic() - started) / 60:.1f} minutes,"
            f" {len(workers)} at a time"
        )


def results(study: Study, out: Path) -> Results:
    """The rows of every run whose table is there, by arm (in the study's order) and seed."""
    found = {}
    for arm in study.arms:
        tables = {
            int(path.stem.rpartition("-")[2]): path
            for path in sorted(out.glob(f"{arm}-*.csv"))
            if path.stem.removeprefix(f"{arm}-").isdigit()
        }
        if tables:
            found[arm] = {seed: rounds.read(path) for seed, path in sorted(tables.items())}
    return found


@dataclass
class Worker:
    """One `ouroloop.loop.experiments.worker` process and what it is busy with."""

    process: subprocess.Popen[str]
    log: Path
    busy: Run | None = None
    since: float = 0.0

    @classmethod
    def start(cls, study: Study, runs: Path, out: Path, quick: bool) -> Worker:
        """A fresh process with one core's worth of threads.

        Its output goes to a log beside the runs.
        """
        log = runs / "worker.log"
        command = [
            sys.executable,
            "-m",
            "ouroloop.loop.experiments.worker",
            study.name,
            str(runs),
            str(out),
            *(["--quick"] if quick else []),
        ]
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env={**child_environment(), "OMP_NUM_THREADS": "1"},
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
    workers: Sequence[Worker],
    todo: list[Run],
    out: Path,
    progress: LiveProgress,
    total: int,
) -> None:
    """Hand out runs whose needs are there to workers that are free, until all are done."""
    waiting = selectors.DefaultSelector()
    for worker in workers:
        waiting.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
    left = list(todo)
    while left or any(w.busy for w in workers):
        for worker in (w for w in workers if w.busy is None):
            ready = next(
                (
                    r
                    for r in left
                    if all(_table(out, (need, r[1])).exists() for need in study.needs(r[0]))
                ),
                None,
            )
            if ready is not None:
                left.remove(ready)
                worker.give(ready)
        names = ", ".join(f"{w.busy[0]}-{w.busy[1]}" for w in workers if w.busy)
        progress("runs", total - len(left) - sum(w.busy is not None for w in workers), total, names)
        for key, _ in waiting.select():
            _hear(key.data, out, progress)
    progress("runs", total, total)


def _hear(worker: Worker, out: Path, progress: LiveProgress) -> None:
    """One reply of a worker."""
    assert worker.process.stdout is not None and worker.busy is not None
    name, minutes = f"{worker.busy[0]}-{worker.busy[1]}", (time.monotonic() - worker.since) / 60
    line = worker.process.stdout.readline()
    answer = (
        json.loads(line)
        if line
        else {"error": f"its process ended; the last lines of {worker.log} say why"}
    )
    if "error" in answer:
        raise EngineError(
            f"{name} failed after {minutes:.1f} minutes: {answer['error']}\nWhat was finished is"
            " kept; the same command goes on."
        )
    told = ", ".join(
        f"{key} {value:.3g}"
        for key, value in list(rounds.read(_table(out, worker.busy))[-1].items())[:8]
        if isinstance(value, float)
    )
    progress.say(f"{name}: {minutes:.1f} minutes; {told}")
    worker.busy = None


def _table(out: Path, run: Run) -> Path:
    return out / f"{run[0]}-{run[1]}.csv"
