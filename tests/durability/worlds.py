"""A run on the scripted model in a child process, started as `ouroloop run` and `resume` do.

The child is a fork of a process that has everything imported, so that hundreds of runs take
minutes. What it is asked is written to a log, an answer a line, before it is given.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "loop"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engines"))

import pyarrow.parquet as pq
import scripted_world

from ouroloop.loop import runner
from ouroloop.loop.__main__ import main
from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines import registry
from ouroloop.loop.folder.integrity import EVENTS, MANIFEST, RUN
from ouroloop.loop.folder.store import RECIPE as RECIPE_FILE
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Completion, Request
from ouroloop.loop.setup import prepare

# A run that takes longer hangs.
PATIENCE_S = 300.0
NAME = "scripted"
RECIPE: dict[str, Any] = scripted_world.small_keys(
    name=NAME,
    rounds=2,
    engine={"kind": "scripted", "weight_sync_check": False, "concurrency": 8},
)
# Times, process numbers and absolute paths stand in them.
CHANGING = {EVENTS, "LOCK", RUN, MANIFEST, "env.json", "job.json"}


@dataclass
class Logged:
    """The scripted engine; it writes down what it is asked."""

    inner: Any
    log: Path
    pause_s: float = 0.0
    loaded: list[Path] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def complete(self, request: Request) -> Completion:
        # One write of a short line: whole in the file, or not there.
        with self.log.open("a") as file:
            file.write(f"{time.time():.6f} {request.id}\n")
        if self.pause_s:
            time.sleep(self.pause_s)
        return await self.inner.complete(request)


def write_recipe(root: Path, **changes: Any) -> Path:
    """The recipe of a run in `root`, as JSON, which is YAML."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "recipe.yaml"
    path.write_text(json.dumps({**RECIPE, **changes}))
    return path


def play(root: Path, trainer: Any = scripted_world.no_training, engine: Any = None) -> int:
    """Start or resume the run in `root`; the exit code. In a child only: it patches the loop."""
    log = root / "asked.log"
    if engine is None:
        registry.ENGINES["scripted"] = lambda config, path: Logged(  # type: ignore[assignment]
            scripted_world.Model().engine, log
        )
    else:
        registry.ENGINES["scripted"] = engine
    if trainer is not None:
        runner.Campaign = partial(Campaign, trainer=trainer)  # type: ignore[misc, assignment]
    runs = root / "runs"
    # As a person does: a start that was cut off before there was a recipe is no run to resume.
    if (runs / NAME / RECIPE_FILE).exists():
        return main(["resume", NAME, "--runs", str(runs)])
    return main(["run", str(root / "recipe.yaml"), "--runs", str(runs)])


@dataclass
class Child:
    """A process of this test's own, forked; it ends with the exit code of what it does."""

    pid: int
    started: float
    said: Path
    code: int | None = None

    @classmethod
    def of(cls, root: Path, does: Callable[[], int]) -> Child:
        """Start it; what it prints goes to `root/said.txt`."""
        root.mkdir(parents=True, exist_ok=True)
        said = root / "said.txt"
        sys.stdout.flush()
        started = time.time()
        pid = os.fork()
        if pid:
            return cls(pid, started, said)
        code = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = does()
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def wait(self, seconds: float = PATIENCE_S) -> int | None:
        """Its exit code, or minus the signal; None where it still runs."""
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                return None
            else:
                time.sleep(0.002)
        return self.code

    def end(self, number: int = signal.SIGKILL) -> int | None:
        """Send a signal, and wait."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        code = self.wait(30)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(30)
        return code

    def text(self) -> str:
        """What it printed."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""


@dataclass(frozen=True)
class Reference:
    """The undisturbed run."""

    path: Path
    seconds: float
    asked: Counter[str]


@functools.cache
def reference(does: Callable[[Path], int] = play, changes: str = "{}") -> Reference:
    """The undisturbed run of a recipe, once for all trials of this process; changes: JSON."""
    folder = Path(tempfile.mkdtemp(prefix="undisturbed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return undisturbed(folder, does, **json.loads(changes))


def undisturbed(root: Path, does: Callable[[Path], int] = play, **changes: Any) -> Reference:
    """The run of a recipe that nothing happens to; kept in `root`."""
    write_recipe(root, **changes)
    # Here, not in every child: the index of held-out questions is kept by its process.
    prepare(resolve(RECIPE))
    child = Child.of(root, lambda: does(root))
    code = child.wait()
    if code not in (0, 3):
        raise RuntimeError(f"{root}: the undisturbed run ended with {code}:\n{child.text()}")
    return Reference(root / "runs" / NAME, time.time() - child.started, Counter(asked(root)))


def log_lines(root: Path) -> Iterator[tuple[float, str]]:
    """(time, request id) of everything that was asked of the model."""
    path = root / "asked.log"
    for line in path.read_text().splitlines() if path.exists() else ():
        when, _, name = line.partition(" ")
        yield float(when), name


def asked(root: Path) -> list[str]:
    """The ids of all requests, in order."""
    return [name for _, name in log_lines(root)]


def recovery(root: Path, started: float) -> tuple[float, ...]:
    """Seconds from a process's start to its first request; none where nothing was left to ask."""
    times = [when for when, _ in log_lines(root) if when >= started]
    return (times[0] - started,) if times else ()


def repeated(root: Path, reference: Reference) -> int:
    """Requests beyond those of the undisturbed run."""
    return sum((Counter(asked(root)) - reference.asked).values())


def lost_rows(run: Path, reference: Path, leave_out: Collection[str] = ()) -> int:
    """Rows of the undisturbed run's files that a finished run lacks or has otherwise.

    Of a file that is no table the lines are its rows. leave_out: names of files that may differ.
    """
    return sum(max(1, sum(rows.values())) for _, rows in differences(run, reference, leave_out))


def differences(
    run: Path, reference: Path, leave_out: Collection[str] = ()
) -> Iterator[tuple[str, Counter[str]]]:
    """(file, those of its rows in the undisturbed run that are not in `run`), file by file."""
    for path in sorted(reference.rglob("*")):
        # What libraries print is theirs.
        if not path.is_file() or path.suffix == ".log" or path.name in {*CHANGING, *leave_out}:
            continue
        file = path.relative_to(reference)
        other = run / file
        if not other.exists() or _sum(other) != _sum(path):
            yield str(file), _rows(path) - _rows(other)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(path: Path) -> Counter[str]:
    if not path.exists():
        return Counter()
    if path.suffix == ".parquet":
        return Counter(json.dumps(each, sort_keys=True) for each in pq.read_table(path).to_pylist())
    return Counter(path.read_text(errors="replace").splitlines())


def finished(code: int | None) -> bool:
    """Whether a run came to its end: done, or halted by its own rule."""
    return code in (0, 3)
