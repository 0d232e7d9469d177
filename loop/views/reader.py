"""A run directory, read. Every view starts here; nothing here writes, and no stage is known.

A round exists from its MANIFEST.json on; the number of one without is `open_round`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ouroloop.loop.best import best_round
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.integrity import (
    CHECKPOINT,
    EVENTS,
    MANIFEST,
    PRUNED,
    read_manifest,
    refuse_damaged_file,
    round_folders,
)
from ouroloop.loop.folder.lock import LOCK, is_held
from ouroloop.loop.folder.store import ENVIRONMENT, PROBE_SET, RECIPE, WARM_START
from ouroloop.loop.folder.sums import round_folder
from ouroloop.loop.round import Round
from ouroloop.loop.views.files import read_column, read_events, read_object, read_table
from ouroloop.loop.views.lookup import find
from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.estimand import EVERY, GREEDY, OTHERS, PROBE, Estimand
from ouroloop.monitors.names import Action

NAN = float("nan")
Json = dict[str, Any]
# Characters of a failure's reason in views: a server's traceback can be far longer.
MAX_REASON = 1000


@dataclass(frozen=True, eq=False)
class RoundData:
    """One committed round. Keys are those of `runs/README.md`.

    A file that the round does not have is an empty mapping.
    """

    number: int
    path: Path
    main_family: str  # its accuracy stands for the round; the run's probe_set.json names it
    plan: Json
    decision: Json
    train: Json
    manifest: Json
    readings: tuple[Reading, ...]
    screened: Json = field(default_factory=dict)
    _columns: dict[tuple[str, str], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def action(self) -> str:
        """What was decided after this round."""
        return str(self.decision.get("action", Action.CONTINUE))

    @cached_property
    def decided(self) -> Decision:
        """`decision` as the record that it is."""
        return Decision.from_json(self.decision)

    @property
    def carried_out(self) -> bool:
        """False when the decision was only written down (the unguarded arm)."""
        return bool(self.decision.get("carried_out", True))

    def score(self, metric: str, family: str | None = None) -> tuple[float, float, float]:
        """(value, low, high) of `pass@1`, `pass@k`, `maj@k` or `greedy`; NaN where undefined."""
        samples = GREEDY if metric == "greedy" else PROBE
        statistic = "accuracy/pass@1" if metric == "greedy" else f"accuracy/{metric}"
        wanted = Estimand(statistic, family or self.main_family, samples=samples)
        found = self.find(wanted)
        return (NAN, NAN, NAN) if found is None else (found.value, found.low, found.high)

    def reading(self, name: str) -> Reading | None:
        """The reading of that id, if the round has it."""
        return self._by_estimand.get(Estimand.parse(name))

    def find(self, wanted: Estimand) -> Reading | None:
        """The reading of this estimand, if the round has it; see `lookup.find`."""
        exact = self._by_estimand.get(wanted)
        return exact or find(self.readings, wanted, self.main_family)

    @cached_property
    def _by_estimand(self) -> dict[Estimand, Reading]:
        return {reading.estimand: reading for reading in self.readings}

    @property
    def families(self) -> dict[str, int]:
        """Every family that was scored, with its number of problems, the main one first."""
        found = {
            e.family: reading.num_clusters
            for e, reading in self._by_estimand.items()
            if (e.statistic, e.slice, e.samples) == ("accuracy/pass@1", EVERY, PROBE)
            and e.family != OTHERS
        }
        return {name: found[name] for name in sorted(found, key=lambda f: f != self.main_family)}

    @cached_property
    def probe(self) -> Any:
        """probe.parquet as a pandas DataFrame (empty when the round has none).

        Like the other tables below.
        """
        return read_table(self.path / Round.probe.file)

    @cached_property
    def critics(self) -> Any:
        """critics.parquet."""
        return read_table(self.path / Round.critics.file)

    @cached_property
    def judgements(self) -> Any:
        """judgements.parquet: of a run with a frozen judge."""
        return read_table(self.path / Round.judgements.file)

    @cached_property
    def texts(self) -> Any:
        """texts.parquet."""
        return read_table(self.path / Round.texts.file)

    @cached_property
    def audit(self) -> Any:
        """audit.parquet."""
        return read_table(self.path / Round.audit.file)

    @cached_property
    def dropped(self) -> Any:
        """dropped.parquet."""
        return read_table(self.path / Round.dropped.file)

    @cached_property
    def verdicts(self) -> Any:
        """verdicts.parquet."""
        return read_table(self.path / Round.verdicts.file)

    @cached_property
    def examples(self) -> Any:
        """examples.parquet."""
        return read_table(self.path / Round.examples.file)

    @cached_property
    def pairs(self) -> Any:
        """pairs.parquet: of a preference round."""
        return read_table(self.path / Round.pairs.file)

    def column(self, table: str, name: str) -> list[Any]:
        """A column of a table of the round, as `Round` calls them; empty where there is none."""
        # Committed rounds never change: `watch` looks at all of them every second.
        if (table, name) not in self._columns:
            path = self.path / getattr(Round, table).file
            self._columns[table, name] = read_column(path, name)
        return self._columns[table, name]

    @property
    def objective(self) -> str:
        """What the round trained with; "" in round 0."""
        # Runs of earlier versions name none: there was only sft, or one of the user's own.
        return str(self.plan.get("objective", "sft")) if self.number else ""

    @cached_property
    def view(self) -> RoundView:
        """What the monitors saw of the round."""
        return Round(self.path).view

    def samples(self) -> Iterator[Json]:
        """samples.jsonl, chain by chain, as plain dictionaries shaped like `records.Sample`."""
        path = self.path / Round.samples.file
        refuse_damaged_file(self.path.parent.parent, path)
        # Line by line: it holds token ids and log-probabilities, and can be large.
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())


@dataclass(frozen=True, eq=False)
class RunData:
    """One run: its recipe, its committed rounds in order, and what is known about the rest."""

    path: Path
    recipe: Json
    env: Json
    events: tuple[Json, ...]
    rounds: tuple[RoundData, ...]
    open_round: int | None

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.recipe.get("name", self.path.name))

    @property
    def guarded(self) -> bool:
        """Whether decisions are carried out."""
        return bool((self.recipe.get("monitors") or {}).get("guard", True))

    @property
    def has_stages(self) -> bool:
        """Whether any of its rounds trains with another objective than sft."""
        others = [r.objective for r in self.rounds if r.objective not in ("", "sft")]
        return bool(others or self.recipe.get("stages"))

    @property
    def best_round(self) -> int | None:
        """See the function of the same name in `best.py`."""
        return best_round((r.number, r.score("pass@1")[0], r.action) for r in self.rounds)

    def round(self, number: int | None) -> RoundData | None:
        """The committed round of that number."""
        return next((r for r in self.rounds if r.number == number), None)

    def checkpoint(self, number: int | None) -> Path | None:
        """Where the model of a round lies.

        Round 0: the warm start's model, else the recipe's; a round that trained nothing: what it
        started from.
        """
        found = self.round(number)
        if found is None:
            return None
        if found.number == 0:
            warm = self.path / WARM_START / CHECKPOINT
            return warm if warm.exists() else Path(str(self.recipe.get("model", "")))
        return self.path / str(found.train.get("checkpoint") or found.path / CHECKPOINT)

    def place(self, number: int | None) -> str:
        """Where the model of a round lies, or lay, for people; empty for no such round."""
        path, found = self.checkpoint(number), self.round(number)
        if path is None or found is None:
            return ""
        is_pruned = PRUNED in found.manifest and not path.exists()
        return f"{path} (pruned)" if is_pruned else str(path)

    def seconds(self, number: int) -> float:
        """Wall-clock seconds from the (last) start of a round to its last event.

        The value is NaN when the round has no event.
        """
        return self._seconds.get(number, NAN)

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """Of every round that has an event, in one pass: a long run's log has a million lines."""
        began: dict[int, float] = {}
        found: dict[int, float] = {}
        for event in self.events:
            name, number = str(event.get("event", "")), event.get("round")
            if not isinstance(number, int) or "time" not in event or name.startswith("run_"):
                continue
            if name == "round_started":
                began[number] = float(event["time"])
            found[number] = float(event["time"]) - began.get(number, NAN)
        return found

    @property
    def state(self) -> str:
        """`finished`, `running` (a process holds LOCK), `failed`, else `stopped`: to be resumed.

        Finished and failed are what the last event of the run itself says (`run_started`,
        `run_finished`, ...): events of rounds and progress may follow it. A failed run that a
        process holds is being resumed, hence running.
        """
        last = self._last_run_event.get("event")
        # The order matters: a finished run's lock may still be held for a moment, and a failed run
        # that somebody holds is being resumed.
        if last == "run_finished":
            return "finished"
        if is_held(self.path / LOCK):
            return "running"
        if last == "run_failed":
            return "failed"
        return "stopped"

    @property
    def failure(self) -> str:
        """Why a failed run failed, on one line of at most `MAX_REASON` characters.

        Empty for a run that is not failed.
        """
        if self.state != "failed":
            return ""
        recorded = self._last_run_event.get("error") or "no reason was recorded"
        reason = " ".join(str(recorded).split())
        if len(reason) <= MAX_REASON:
            return reason
        return f"{reason[:MAX_REASON]}... (all of it: {self.path / EVENTS})"

    @property
    def _last_run_event(self) -> Json:
        own = (e for e in reversed(self.events) if str(e.get("event", "")).startswith("run_"))
        return next(own, {})


def read_run(path: Path | str, before: RunData | None = None) -> RunData:
    """Read a run directory. Tables are read when they are first asked for.

    before: an earlier reading of the same run, whose committed rounds are taken over.

    Raises:
        RunStateError: `path` is not a run directory.
    """
    path = Path(path)
    if not (path / RECIPE).is_file():
        raise RunStateError(
            f"{path}: not a run directory (no recipe.json). Give the folder of a run, e.g."
            " runs/<name>."
        )
    folders = round_folders(path)
    # A committed round never changes, so one that was read before is good for ever.
    known = {r.path: r for r in before.rounds} if before else {}
    main = str(read_object(path, path / PROBE_SET).get("main", ""))
    unfinished = [int(p.name) for p in folders if not (p / MANIFEST).is_file()]
    committed = [p for p in folders if (p / MANIFEST).is_file()]
    return RunData(
        path=path,
        recipe=read_object(path, path / RECIPE),
        env=read_object(path, path / ENVIRONMENT),
        events=tuple(read_events(path / EVENTS)),
        rounds=tuple(known.get(p) or _round(p, main) for p in committed),
        open_round=unfinished[-1] if unfinished else None,
    )


def read_round(run: Path, number: int) -> RoundData:
    """One committed round of a run, for who needs no other."""
    return _round(round_folder(run, number), "")


def _round(path: Path, main_family: str) -> RoundData:
    run = path.parent.parent
    return RoundData(
        number=int(path.name),
        path=path,
        main_family=main_family,
        plan=read_object(run, path / Round.plan.file),
        decision=read_object(run, path / Round.decision.file),
        train=read_object(run, path / Round.training.file),
        screened=read_object(run, path / Round.screened.file),
        manifest=read_manifest(path / MANIFEST),
        readings=Round(path).readings,
    )
