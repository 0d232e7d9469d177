"""A trainer's process that has imported its libraries before its job comes.

Importing torch and TRL takes seconds, which a round would wait for. So a process imports them while
the engine samples, and gets the job through its standard input. It trains in a fork of itself and
waits for the next job: what a training allocates, breaks or leaks ends with the fork. After CUDA
has been asked for anything, a fork cannot use it; there the process itself trains, once.

`WarmTrainer` is the parent's side and imports nothing heavy; `wait_for_jobs` is the child's.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import queue
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.devices import this_device
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.objectives import child
from ouroloop.loop.objectives.child import TAKEN, report, watch_parent

# What a training imports; nothing of it asks for CUDA.
WARM_MODULES = (
    "trl.trainer.sft_trainer",
    "trl.trainer.dpo_trainer",
    "ouroloop.loop.engines.transformers_local",
    "ouroloop.loop.objectives.batches",
    "ouroloop.loop.objectives.label_logits",
)
# How the process trains: in a fork for each job, or itself, once.
FORK, ONCE = "fork", "once"


class WarmTrainer:
    """Runs jobs of a module in a process that was started before them.

    Args:
        module: `python -m module --standby` waits for jobs.
        forks: whether each job gets a fork of it; default: where no GPU is.
        is_on: False: nothing is started, and nothing may be run.
    """

    def __init__(self, module: str, forks: bool | None = None, is_on: bool = True):
        self.module, self.is_on = module, is_on
        self.forks = not this_device().is_gpu if forks is None else forks
        self._child: subprocess.Popen[bytes] | None = None
        # What the process inherited: with a job it gets what came since, its secrets.
        self._environment: Mapping[str, str] = {}

    @property
    def pid(self) -> int | None:
        """Of the process that waits or trains; None where there is none."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the process unless one waits already; does not wait for its imports."""
        if not self.is_on or (self._child is not None and self._child.poll() is None):
            return
        # One that died while it waited did no harm, however it died.
        self.close()
        self._environment = dict(os.environ)
        how = FORK if self.forks else ONCE
        # There is no round's log yet: until a job comes its errors stay in the pipe.
        self._child = child.start(self.module, ["--standby", how], subprocess.STDOUT)

    def run(
        self,
        job: Path,
        log_path: Path,
        on_progress: Callable[[int, int], None],
        limits: TimeLimits,
    ) -> None:
        """Run one job to its end. See `run_child`."""
        begin = child.size_of(log_path)
        ending = self._run(job, log_path, on_progress, limits)
        # It died while it waited, which says nothing about the job: another takes it.
        if ending.code and not ending.began:
            ending = self._run(job, log_path, on_progress, limits)
        child.raise_failure(ending, self.module, log_path, begin)

    def close(self) -> None:
        """End the process, and what it trains."""
        if self._child is not None:
            child.end(self._child)
            self._child = None

    def _run(
        self,
        job: Path,
        log_path: Path,
        on_progress: Callable[[int, int], None],
        limits: TimeLimits,
    ) -> child.Ending:
        self.start()
        process = self._child
        assert process is not None
        ending = None
        try:
            self._order(process, job, log_path)
            ending = child.follow(process, self.module, log_path, on_progress, limits)
        finally:
            # After its only job, its death, silence, or an interruption.
            if ending is None or not ending.waits:
                self.close()
        return ending

    def _order(self, process: subprocess.Popen[bytes], job: Path, log_path: Path) -> None:
        """Hand the job over."""
        since = {k: v for k, v in os.environ.items() if self._environment.get(k) != v}
        order = {"job": str(job), "log": str(log_path), "environment": since}
        assert process.stdin is not None
        # A process that has just died is noticed by the end of what it says.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()


# -- in the child -------------------------------------------------------------------


def warm_up() -> None:
    """Import what training needs, once, and keep the garbage collector off it.

    Every training collects garbage twice or more, and would go through half a million objects of
    the libraries: a quarter of a second.
    """
    for name in WARM_MODULES:
        importlib.import_module(name)
    gc.freeze()


def wait_for_jobs(orders: queue.SimpleQueue[str], train: Callable[[Path], int], forks: bool) -> int:
    """Train on every job that is ordered; the exit code, where this process itself trained.

    Without a parent it waits for ever: `watch_parent` ends the process.
    """
    while True:
        order = json.loads(orders.get())
        # What ends the process from here on is the job's own end.
        report(**TAKEN)
        if not forks:
            return _work(order, train)
        report(ended=_in_a_fork(lambda order=order: _work(order, train)))  # type: ignore[misc]


def _in_a_fork(work: Callable[[], int]) -> int:
    """The exit code of `work` in a fork of this process; negative: the signal that killed it."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads: ours only reads the pipe, and the libraries'
        # survive forks, as those of every torch.utils.data.DataLoader do.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        # Threads do not survive a fork.
        watch_parent()
        code = work()
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: what the parent has to do at its own end is not the fork's to do.
        os._exit(code)


def _work(order: dict[str, Any], train: Callable[[Path], int]) -> int:
    """Do what an order says; from here on errors go to the job's log."""
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 2)
    os.close(log)
    return train(Path(order["job"]))
