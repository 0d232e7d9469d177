"""Every state of its files that a kill can leave a run in, one after the other, and resumed.

A run is recorded: before each operation on a file its folder is copied, if it is not as it was. A
file that grows in place may be cut off in the middle of what was written, so that is a state of its
own. Random kills of a run hit some of these by chance; here none is left out.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import worlds
from scripted_world import Model, small
from trials import Fault, Trial

from ouroloop.loop.controller import Campaign
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.ledger import JOURNAL, LEDGER
from ouroloop.loop.folder.store import Store, write_json
from ouroloop.loop.setup import Setting, prepare
from ouroloop.loop.views.verify import checks_of, is_whole

# Those of Python's audit events that come before something on a disk changes.
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
NAME = "SIGKILL, every file operation"
SETTINGS = small(
    name="crashing",
    rounds=2,
    keep={"best": 0, "last": 0, "baseline": False},
    monitors={"canonicaliser": "templates"},
)
# A training that is made again leaves other bytes: its times, and on many machines its weights.
TRAINED = ("train.json", "model.safetensors")
# Its presence says that a round's samples are judged, and that it is not trained yet or was.
FILTERED = Path(SETTINGS.name, "rounds", "002", "verdicts.parquet")
Signature = dict[str, tuple[int, int, int]]


class Recorder:
    """Copies of a folder, one for each state that a kill could leave it in."""

    def __init__(self, watched: Path, states: Path) -> None:
        self.watched, self.states = watched, states
        self.number, self.is_busy = 0, False
        self.last: Signature = {}

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if event not in OPERATIONS or self.is_busy:
            return
        named = arguments[0]
        if isinstance(named, str | os.PathLike) and str(named).startswith(str(self.watched)):
            self.look()

    def look(self) -> None:
        """Copy the folder if anything changed; first with what has grown cut off in the middle."""
        self.is_busy = True
        try:
            now = self._signature()
            if now != self.last:
                grown = self._grown(now)
                for file in grown:
                    self._copy(cut=file, size=(self.last[file][0] + now[file][0]) // 2)
                self.last = now
                self._copy()
        finally:
            self.is_busy = False

    def _signature(self) -> Signature:
        found = {}
        for folder, _, files in os.walk(self.watched):
            for name in ("", *files):
                about = os.lstat(os.path.join(folder, name))
                size = about.st_size if name else 0
                key = os.path.relpath(os.path.join(folder, name), self.watched)
                # Every answer is a line of the journal: test_journal.py cuts between those.
                is_journal = name == JOURNAL
                found[key] = (
                    (0, 0, 0) if is_journal or not name else (size, about.st_mtime_ns, about.st_ino)
                )
        return found

    def _grown(self, now: Signature) -> list[str]:
        before = self.last
        return [
            file
            for file, (size, _, inode) in now.items()
            if file in before and before[file][2] == inode and before[file][0] + 1 < size
        ]

    def _copy(self, cut: str = "", size: int = 0) -> None:
        target = self.states / f"{self.number:04d}" / self.watched.name
        shutil.copytree(self.watched, target, dirs_exist_ok=True)
        if cut:
            os.truncate(target / cut, size)
        self.number += 1


_recorder: Recorder | None = None
_is_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorder is not None:
        _recorder.hook(event, arguments)


@contextmanager
def recorded(watched: Path, states: Path) -> Iterator[Recorder]:
    """Every state of a folder while the block runs. Audit hooks stay, so there is one for all."""
    global _recorder, _is_hooked
    if not _is_hooked:
        sys.addaudithook(_hook)
        _is_hooked = True
    _recorder = Recorder(watched, states)
    try:
        yield _recorder
        _recorder.look()
    finally:
        _recorder = None


_trainings = itertools.count()


def training(job: Any, folder: Path, report: Callable[[int, int], None]) -> dict[str, Any]:
    """What training leaves behind, in its order and never twice the same; it trains nothing."""
    shutil.rmtree(job.output, ignore_errors=True)
    job.write(folder / "job.json")
    temporary = job.output.with_name(f"{job.output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    weights = str(next(_trainings)).encode()
    (temporary / "model.safetensors").write_bytes(weights)
    (temporary / "config.json").write_text("{}")
    temporary.rename(job.output)
    report(1, 1)
    facts = {
        "status": "trained",
        "checkpoint": f"rounds/{folder.name}/checkpoint",
        "seconds": float(next(_trainings)),
        "num_examples": 1,
        "loss": [],
        "by_origin": {},
    }
    write_json(folder / "train.json", facts)
    return facts


def carry(root: Path, setting: Setting) -> Path:
    """Start the run in `root`, or go on with it, as a person would who knows only what is said."""
    try:
        store = Store.create(root, SETTINGS, "none")
    except RunStateError as error:
        if "ouroloop resume" not in str(error):
            raise
        store = Store.open(root / SETTINGS.name)
    # What it learns of round 0 is its own.
    setting = replace(setting, strategy=copy.deepcopy(setting.strategy))
    campaign = Campaign(store, setting, Model().engine, lambda *what: None, trainer=training)
    try:
        asyncio.run(campaign.run())
    finally:
        store.close()
    return store.path


def record(root: Path) -> tuple[Path, list[Path], Setting]:
    """(a whole run, the folders of all states before its end, what it was set up with)."""
    setting = prepare(SETTINGS)
    with recorded(root / "whole" / SETTINGS.name, root / "states"):
        whole = carry(root / "whole", setting)
    return whole, sorted((root / "states").iterdir()), setting


def record_repair(root: Path, state: Path, setting: Setting) -> list[Path]:
    """The states while a damaged run is opened, repaired and goes on to the end of a round."""
    shutil.copytree(state, root / "repaired")
    run = root / "repaired" / SETTINGS.name
    last = sorted((run / "rounds").iterdir())[-1]
    for path in (run / "events.jsonl", last / LEDGER, last / "verdicts.parquet"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with recorded(run, root / "repairs"):
        Store.open(run).close()
    return sorted((root / "repairs").iterdir())


def fault_of(state: Path, whole: Path, setting: Setting) -> str:
    """What is wrong with the run that goes on from a state; empty where nothing is."""
    try:
        run = carry(state, setting)
    except Exception as error:
        return f"{state.name}: {type(error).__name__}: {error}"[:300]
    for file, rows in worlds.differences(run, whole, TRAINED):
        return f"{state.name}: {file} lacks {len(rows)} rows: {next(iter(rows), '')}"[:300]
    if not is_whole(checks_of(run)):
        return f"{state.name}: not whole"
    left = [path for path in run.rglob("*") if path.name.endswith(".tmp")]
    return f"{state.name}: left behind: {left[0].relative_to(run)}" if left else ""


def every_point(folder: Path, seed: str, number: int) -> Trial:
    """All of them, and all of a repair."""
    whole, states, setting = record(folder)
    before_training = [state for state in states if (state / FILTERED).exists()]
    states += record_repair(folder, before_training[len(before_training) // 4], setting)
    faults = [fault for state in states if (fault := fault_of(state, whole, setting))]
    survived = len(states) - len(faults)
    return Trial(NAME, number, len(states), survived, len(faults), note="; ".join(faults[:3]))


FAULTS = (
    Fault(
        NAME,
        "the process of a scripted run with a trainer that never leaves the same bytes ends before"
        " each operation on a file, and in the middle of each write to one that grows; so does the"
        " repair of a damaged one",
        every_point,
        enough=1,
        quick=0,
    ),
)
