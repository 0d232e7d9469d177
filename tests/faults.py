"""What goes wrong on purpose: in an engine's child, in a trainer's child, at a tracker.

An engine: put `tests` and `tests/loop` on the children's PYTHONPATH (`child_path`), start a
`ProcessEngine(..., worker="faulty_worker")`, and set the variable that `EngineFaults.environment`
gives. A trainer: set `training.MODULE` to "faulty_trainer", and `TrainerFaults.environment`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
ENGINE = "OUROLOOP_TEST_ENGINE_FAULTS"
TRAINER = "OUROLOOP_TEST_TRAINER_FAULTS"
FOREVER = 3600.0


def child_path() -> str:
    """PYTHONPATH of a child that is one of these, beside the caller's own."""
    folders = (HERE, HERE / "loop", HERE / "engines")
    return os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])


@dataclass(frozen=True)
class Faults:
    """tally: a file that gets a line per fault. limit: of them, over all processes."""

    tally: str = ""
    limit: int = 10**9

    def count(self) -> int:
        """Faults so far."""
        path = Path(self.tally)
        return len(path.read_text().splitlines()) if self.tally and path.exists() else 0

    def note(self, what: str) -> bool:
        """Whether there is one more to come; then it is counted, before it happens."""
        if self.count() >= self.limit:
            return False
        if self.tally:
            with Path(self.tally).open("a") as tally:
                tally.write(f"{what}\n")
        return True


@dataclass(frozen=True)
class EngineFaults(Faults):
    """By the answers that one process has given (loading counts as none); 0: never.

    dies_every: killed in place of every n-th answer. silent_after: after n answers the process
    lives and does nothing more. garbled_every: every n-th answer arrives cut and without its end.
    noise_every: a line of bytes that are no text before every n-th answer. giant_every: every n-th
    answer is one of giant_bytes. slow_start_s: seconds before the process does anything.
    """

    dies_every: int = 0
    silent_after: int = 0
    garbled_every: int = 0
    noise_every: int = 0
    giant_every: int = 0
    giant_bytes: int = 2**21
    slow_start_s: float = 0.0

    def environment(self) -> dict[str, str]:
        """What the worker's environment must hold."""
        return {ENGINE: json.dumps(asdict(self)), "PYTHONPATH": child_path()}

    @classmethod
    def here(cls) -> EngineFaults:
        """Those of this process."""
        return cls(**json.loads(os.environ.get(ENGINE, "{}")))


class FaultyPipe:
    """A worker's private standard output, through which every answer passes."""

    def __init__(self, out: TextIO, faults: EngineFaults):
        self.out, self.faults, self.num_answers = out, faults, 0

    def write(self, line: str) -> None:
        if '"weight_version"' not in line or '"token_ids"' not in line:
            self.out.write(line)
            return
        self.num_answers += 1
        faults = self.faults
        if faults.silent_after and self.num_answers > faults.silent_after and faults.note("silent"):
            time.sleep(FOREVER)
        if self._is_due(faults.dies_every, "dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_due(faults.noise_every, "noise"):
            self.out.flush()
            os.write(self.out.fileno(), b'\xff\x00{"id": \xfe\n')
        if self._is_due(faults.garbled_every, "garbled"):
            line = line[: len(line) // 2].rstrip() + "\n"
        if self._is_due(faults.giant_every, "giant"):
            key = re.match(r'\{"id": (\d+)', line)
            assert key is not None
            line = f'{{"id": {key.group(1)}, "ok": "{"x" * faults.giant_bytes}"}}\n'
        self.out.write(line)

    def flush(self) -> None:
        self.out.flush()

    def _is_due(self, every: int, what: str) -> bool:
        return bool(every) and self.num_answers % every == 0 and self.faults.note(what)


@dataclass(frozen=True)
class TrainerFaults(Faults):
    """fits: the largest batch per device that does not run out of memory; 0: all do.

    how: "killed" by the system, "torch" and "python" raise their own error of memory, "launcher"
    ends as a launcher does whose process was killed. silent_after: steps after which the trainer
    lives and does nothing more; -1: never. fails: ends with status 3 before the first step.
    """

    fits: int = 0
    how: str = "killed"
    silent_after: int = -1
    fails: bool = False

    def environment(self) -> dict[str, str]:
        """What the trainer's environment must hold."""
        return {TRAINER: json.dumps(asdict(self)), "PYTHONPATH": child_path()}

    @classmethod
    def here(cls) -> TrainerFaults:
        """Those of this process."""
        return cls(**json.loads(os.environ.get(TRAINER, "{}")))


HANGING_TRACKERS = """
import fcntl, time
from pathlib import Path


class Hangs:
    def sync(self, run_path):
        time.sleep(3600)


class Locked:
    def sync(self, run_path):
        with (Path(run_path).parent / "tracker.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
"""
"""Source of a file of trackers: one hangs, one waits for a lock that the test holds."""


def wait_until(is_so: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `is_so` gives once it is true.

    Raises:
        TimeoutError: it was not, for so long.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := is_so():
            return found
        time.sleep(0.01)
    raise TimeoutError(f"not so within {seconds} s: {is_so}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
