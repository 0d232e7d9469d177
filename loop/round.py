"""One round's data and who owns it: every table, file and decision.

The class body of `Round` is the list of a round's files. Each is read and written through its
attribute, as typed records:

    if round.lacks(Round.texts):                  # what is missing is made ...
        round.texts = await texts.measure(...)    # (written atomically, kept in memory)
    view = texts_of(round.texts)                  # ... and what is there is read, once

This is resume, and the only idiom of it. A round exists from its manifest on, which is written
last; to a committed round no file is ever added.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast, overload

from ouroloop.loop.drawn import Drawn, FurtherRow
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder import tables
from ouroloop.loop.folder.integrity import COMMITTED, EVENTS, MANIFEST, refuse_damaged_file
from ouroloop.loop.folder.ledger import SAMPLES, Ledger, files_of, remove_working_files
from ouroloop.loop.folder.lines import proven, read_lines
from ouroloop.loop.folder.storage import atomic, to_disk
from ouroloop.loop.folder.store import read_json, write_json
from ouroloop.loop.folder.sums import ROUNDS, round_folder, sealed, sum_of
from ouroloop.loop.records import Sample
from ouroloop.loop.round_view import (
    audit_of,
    critics_of,
    dropped_of,
    judge_of,
    pool_of,
    samples_of,
    texts_of,
    traces_of,
    with_draws,
)
from ouroloop.loop.rows import (
    AuditRow,
    CritiqueRow,
    DroppedRow,
    Example,
    JudgementRow,
    Pair,
    Preflight,
    ProbeRow,
    RoundPlan,
    Screened,
    StartPlan,
    TextRow,
    TraceRow,
    Training,
    Verdict,
)
from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.estimand import EVERY, Estimand

T = TypeVar("T")


class Item(ABC, Generic[T]):
    """A file of a round as an attribute of type T."""

    def __init__(self, file: str) -> None:
        self.file = file

    @abstractmethod
    def load(self, path: Path) -> T:
        """What the file holds, or what its absence means."""

    @abstractmethod
    def save(self, path: Path, value: T) -> None:
        """Write the file atomically."""

    @overload
    def __get__(self, round: None, owner: type[Round]) -> Self: ...

    @overload
    def __get__(self, round: Round, owner: type[Round]) -> T: ...

    def __get__(self, round: Round | None, owner: type[Round]) -> T | Self:
        if round is None:
            return self
        if self.file not in round.memory:
            path = round.folder / self.file
            if round.is_committed:
                refuse_damaged_file(round.run, path)
            round.memory[self.file] = self.load(path)
        return cast(T, round.memory[self.file])

    def __set__(self, round: Round, value: T) -> None:
        round.write(self, value)


class Table(Item[tuple[T, ...]]):
    """A Parquet table; one that is not there has no rows."""

    def __init__(self, file: str, record: type[T]) -> None:
        super().__init__(file)
        self.record = record

    def load(self, path: Path) -> tuple[T, ...]:
        """All rows."""
        if not path.exists():
            return ()
        return tables.read_table(path, self.record)

    def save(self, path: Path, value: tuple[T, ...]) -> None:
        """Write all rows."""
        tables.write_table(path, value, self.record)

    def __set__(self, round: Round, value: Sequence[T]) -> None:
        rows = tuple(value)
        round.write(self, rows)
        round.memory[self.file] = rows  # a table is not read back by the process that made it


class Json(Item[T]):
    """A JSON file that holds one record.

    What was just written is read back: NaN becomes null on the way, and a run must go on from the
    very values that a resumed run would see.
    """

    def __init__(self, file: str, record: type[T]) -> None:
        super().__init__(file)
        self.record = record

    def load(self, path: Path) -> T:
        """The record.

        Raises:
            RunStateError: there is no such file.
        """
        if not path.exists():
            raise RunStateError(
                f"{path}: missing; expected a {self.record.__name__}. The round is not finished"
                " (resume the run), or a file of it was deleted (restore it)."
            )
        return tables.from_json(self.record, read_json(path), path)

    def save(self, path: Path, value: T) -> None:
        """Write the record."""
        write_json(path, tables.to_json(value))


class JsonList(Item[tuple[T, ...]]):
    """A JSON file that holds a list of records; one that is not there holds none."""

    def __init__(self, file: str, record: type[T]) -> None:
        super().__init__(file)
        self.record = record

    def load(self, path: Path) -> tuple[T, ...]:
        """The records."""
        if not path.exists():
            return ()
        return tuple(tables.from_json(self.record, raw, path) for raw in read_json(path))

    def save(self, path: Path, value: tuple[T, ...]) -> None:
        """Write the records."""
        write_json(path, [tables.to_json(record) for record in value])

    def __set__(self, round: Round, value: Sequence[T]) -> None:
        round.write(self, tuple(value))


class JsonLines(JsonList[T]):
    """A file of one record per line, each with its checksum; one that is not there holds none."""

    def load(self, path: Path) -> tuple[T, ...]:
        """The records."""
        lines = read_lines(path).good
        return tuple(tables.from_json(self.record, json.loads(line), path) for line in lines)

    def save(self, path: Path, value: tuple[T, ...]) -> None:
        """Write the records."""
        raws = (json.dumps(tables.to_json(each), separators=(",", ":")) for each in value)
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{proven(raw)}\n" for raw in raws)


class Round:
    """One round of a run. Round 0 is the starting model: it samples and trains nothing."""

    start = Json("plan.json", StartPlan)  # round 0's; the file is every other round's `plan`
    plan = Json("plan.json", RoundPlan)
    samples = JsonLines(SAMPLES, Sample)
    audit = Table("audit.parquet", AuditRow)
    preflight = Json("preflight.json", Preflight)
    dropped = Table("dropped.parquet", DroppedRow)
    verdicts = Table("verdicts.parquet", Verdict)
    examples = Table("examples.parquet", Example)
    pairs = Table("pairs.parquet", Pair)
    screened = Json("screened.json", Screened)
    training = Json("train.json", Training)
    texts = Table("texts.parquet", TextRow)
    probe = Table("probe.parquet", ProbeRow)
    critics = Table("critics.parquet", CritiqueRow)
    further = Table("further.parquet", FurtherRow)
    drawn = Json("drawn.json", Drawn)
    traces = Table("traces.parquet", TraceRow)
    judgements = Table("judgements.parquet", JudgementRow)
    readings = JsonList("readings.json", Reading)
    decision = Json("decision.json", Decision)

    def __init__(self, folder: Path, main_family: str = "") -> None:
        self.folder = folder
        self.run = folder.parent.parent
        self.main_family = main_family
        self.number = int(folder.name)
        self.memory: dict[str, Any] = {}
        self._view: RoundView | None = None
        self._is_committed = (folder / MANIFEST).exists()
        self._ledger: Ledger | None = None

    @classmethod
    def of(cls, run: Path, number: int, main_family: str = "") -> Round:
        """A round of a run directory, its folder made when missing.

        `main_family`: the family whose accuracy is the round's `score`.
        """
        folder = round_folder(run, number)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, main_family)

    @classmethod
    def items(cls) -> Iterator[Item[Any]]:
        """Every file that is read and written as records."""
        yield from (item for item in vars(cls).values() if isinstance(item, Item))

    # -- files ------------------------------------------------------------------

    def has(self, item: Item[Any]) -> bool:
        """Whether the file is there."""
        return item.file in self.memory or (self.folder / item.file).exists()

    def lacks(self, item: Item[Any]) -> bool:
        """Whether the file is still to be made. A committed round lacks nothing."""
        return not self._is_committed and not (self.folder / item.file).exists()

    def write(self, item: Item[T], value: T) -> None:
        """Write a file. Attributes do this when they are assigned to.

        Raises:
            RunStateError: the round is committed.
        """
        # Checked here, so that no stage can break it: a manifest lists every file of the round.
        if self._is_committed:
            raise RunStateError(
                f"{self.folder / item.file}: the round is committed, and nothing is written to it"
                " any more. Start a new run to measure or train otherwise."
            )
        item.save(self.folder / item.file, value)
        self.memory.pop(item.file, None)
        self._view = None  # it was made of what was there before
        self.ledger.add(self.folder / item.file)
        self.ledger.add_new()

    @property
    def ledger(self) -> Ledger:
        """What the round's finished files were when they were finished."""
        if self._ledger is None:
            self._ledger = Ledger(self.run, self.folder)
        return self._ledger

    @property
    def is_committed(self) -> bool:
        """Whether the round exists: its manifest was written."""
        return self._is_committed

    def commit(self) -> None:
        """Write the manifest, last and atomically: from here on the round exists."""
        self.ledger.add_new()
        # What is damaged by now is refused, not promised: a resumed run makes it again. Large files
        # are not hashed a second time since they were finished.
        self.ledger.refuse_damaged()
        known = self.ledger.sums
        entries = {}
        for path in files_of(self.folder):
            found = known.get(str(path.relative_to(self.run))) or sum_of(path)
            entries[str(path.relative_to(self.folder))] = asdict(found)
        inside = f"{ROUNDS}/"
        frozen = {name: asdict(x) for name, x in known.items() if not name.startswith(inside)}
        log = self.run / EVENTS
        manifest = {
            "round": self.number,
            COMMITTED: round(time.time(), 3),
            "files": entries,
            "run": frozen,
            "events_bytes": log.stat().st_size if log.exists() else 0,
        }
        # All of it, before the manifest says that it is there. A trainer writes as it likes, and a
        # file's name is its folder's to keep.
        paths = [*files_of(self.folder), *(self.run / name for name in frozen), log]
        there = [path for path in paths if path.exists()]
        to_disk(*there, *{path.parent for path in there}, self.folder.parent)
        write_json(self.folder / MANIFEST, sealed(manifest))
        to_disk(self.folder)
        self._is_committed = True
        remove_working_files(self.folder)

    def release(self) -> None:
        """Forget the tables that later rounds seldom ask for; they are read again when they do."""
        self._view = None
        measured = (Round.probe, Round.further, Round.critics, Round.judgements)
        scored = (Round.texts, Round.traces)
        learnt = (Round.samples, Round.examples, Round.pairs)
        for item in (*learnt, Round.verdicts, Round.audit, *measured, *scored):
            self.memory.pop(item.file, None)

    # -- what it amounts to --------------------------------------------------------

    @property
    def view(self) -> RoundView:
        """What the monitors see of the round. Kept once the round has been measured."""
        if self._view is not None:
            return self._view
        view = RoundView(
            round=self.number,
            probe=samples_of([row for row in self.probe if row.kind == "sample"], self.judgements),
            greedy=samples_of([row for row in self.probe if row.kind == "greedy"]),
            critics=critics_of(self.critics),
            pool=pool_of(self.verdicts),
            dropped=dropped_of(self.dropped),
            texts=texts_of(self.texts),
            traces=traces_of(self.traces),
            audit=audit_of(self.audit),
            judge=judge_of(self.judgements),
        )
        view = with_draws(view, self.probe, self.further)
        # Before its last table is there (the preflight check looks earlier) it may still change.
        if not self.lacks(Round.critics):
            self._view = view
        return view

    @property
    def score(self) -> float:
        """The main family's pass@1; NaN when undefined."""
        wanted = Estimand("accuracy/pass@1", self.main_family or EVERY)
        return next((r.value for r in self.readings if r.estimand == wanted), math.nan)
