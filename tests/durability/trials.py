"""What was tried, what became of it, and the table of all of it.

Every trial is a line of a file of its fault, in a folder for this state of the code: what was
interrupted goes on where it stopped, and results of other code are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("loop", "monitors", "evals", "tests/durability")


@dataclass(frozen=True)
class Trial:
    """One run, or one input, that something went wrong with on purpose.

    Attributes:
        fault: a name of the table.
        number: of the trial; with the seed it decides what is drawn.
        tried: faults that it met with, e.g. kills of one run.
        survived: of these.
        lost: rows of the undisturbed run that the finished one lacks, or has otherwise; None where
            there is no run to compare.
        repeated: answers of a model that were asked for more than once; None likewise.
        recovery_s: seconds from the fault, or from the start of the process that resumes, to the
            next answer, one for each fault that has one.
        note: what did not survive, and why.
    """

    fault: str
    number: int
    tried: int
    survived: int
    lost: int | None = None
    repeated: int | None = None
    recovery_s: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        name: the row's.
        what: how it is brought about, for RELIABILITY.md.
        trial: makes one, of (folder to work in, random seed, number of the trial).
        enough: faults met with, as `Trial.tried` counts them, after which no more are made.
        quick: the same for `--quick`; 0 leaves it out.
        is_real: on vLLM and TRL, minutes for each.
    """

    name: str
    what: str
    trial: Callable[[Path, str, int], Trial]
    enough: int = 3
    quick: int = 1
    is_real: bool = False


def code_digest() -> str:
    """Of the code that is tried."""
    digest = hashlib.sha256()
    for room in CODE:
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Cache:
    """Trials that were made before, with this code and this seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder / f"{code_digest()}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def trials(self, name: str) -> list[Trial]:
        """Those of a fault."""
        path = self._path(name)
        if not path.exists():
            return []
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [Trial(**{**raw, "recovery_s": tuple(raw["recovery_s"])}) for raw in found]

    def add(self, trial: Trial) -> None:
        """One more."""
        with self._path(trial.fault).open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '_').replace('/', '_')}.jsonl"


def row(fault: Fault, trials: Sequence[Trial]) -> str:
    """A line of the table."""
    times = [seconds for trial in trials for seconds in trial.recovery_s]
    median = f"{statistics.median(times):.2f} s" if times else "-"
    cells = [
        fault.name,
        str(sum(trial.tried for trial in trials)),
        str(sum(trial.survived for trial in trials)),
        _sum(trial.lost for trial in trials),
        _sum(trial.repeated for trial in trials),
        median,
    ]
    return f"| {' | '.join(cells)} |"


def _sum(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return str(sum(known)) if known else "-"


HEAD = """| fault | tried | survived | rows lost | rows repeated | median recovery |
|---|---|---|---|---|---|"""


def table(faults: Sequence[Fault], cache: Cache) -> str:
    """Everything that was tried, with what did not survive below it."""
    rows, notes = [HEAD], []
    for fault in faults:
        trials = cache.trials(fault.name)
        if trials:
            rows.append(row(fault, trials))
            notes += [f"{fault.name} {each.number}: {each.note}" for each in trials if each.note]
    return "\n".join([*rows, "", *dict.fromkeys(notes)]).rstrip() + "\n"
