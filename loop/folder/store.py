"""The run directory: atomic files, manifests, lock, resume.

Knows files, not models (see runs/README.md for every file).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.environment import environment
from ouroloop.loop.errors import RunStateError, StorageError
from ouroloop.loop.folder import integrity, ledger
from ouroloop.loop.folder.integrity import EVENTS, RUN
from ouroloop.loop.folder.lines import proven
from ouroloop.loop.folder.lock import LOCK, Lock, locked
from ouroloop.loop.folder.storage import atomic, to_disk, write_text
from ouroloop.loop.folder.sums import sealed, sum_of_text

if TYPE_CHECKING:
    from ouroloop.loop.config import Recipe

# Files of a run outside its rounds (those of a round: `round.py`).
RECIPE = "recipe.json"
ENVIRONMENT = "env.json"
PROBE_SET = "probe_set.json"
STRATEGIES = "strategies.json"
CLUSTERS = "clusters.json"
WARM_START = "warm_start"


def default_root() -> Path:
    """The folder of all runs: $OUROLOOP_RUNS, or ./runs."""
    return Path(os.environ.get("OUROLOOP_RUNS", "runs")).resolve()


@dataclass
class Store:
    """One run directory, held by this process until `close`."""

    path: Path
    recipe: Recipe
    _lock: Lock
    fingerprint: str
    """Of the recipe as the run was started with it."""
    repairs: Sequence[ledger.Repair] = ()
    """What was damaged when the run was opened, and is made again."""
    _proven: set[Path] = field(default_factory=set)

    @classmethod
    def create(
        cls,
        root: Path,
        recipe: Recipe,
        base_sha256: str,
        inputs: Mapping[str, str] | None = None,
    ) -> Store:
        """Make `root/recipe.name` and lock it.

        inputs: what the run rests on, each with its SHA-256 (`frozen.py`).

        Raises:
            RunStateError: a run of this name exists already.
        """
        path = root / recipe.name
        refuse_taken(path)
        recipe.apply_privacy()
        refuse_impossible(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = locked(path)
        try:
            # Again: who held the lock until now may have made the run.
            refuse_taken(path)
            return cls._begun(path, recipe, lock, base_sha256, inputs or {})
        except BaseException:
            lock.close()
            raise

    @classmethod
    def _begun(
        cls, path: Path, recipe: Recipe, lock: Lock, base_sha256: str, inputs: Mapping[str, str]
    ) -> Store:
        recipe.expose_secrets()
        texts = {
            ENVIRONMENT: json_text(environment(recipe, base_sha256)),
            RECIPE: json_text(recipe.to_json()),
        }
        sums = {name: asdict(sum_of_text(text)) for name, text in texts.items()}
        made = {"name": recipe.name, "run": sums, "inputs": dict(inputs)}
        write_json(path / RUN, sealed(made))
        (path / EVENTS).unlink(missing_ok=True)
        store = cls(path, recipe, lock, recipe.fingerprint())
        store.event("run_created", name=recipe.name)
        # The recipe last: without it the folder is no run, and the start can be repeated.
        for name, text in texts.items():
            write_text(path / name, text)
        to_disk(path, path.parent)
        return store

    @classmethod
    def open(cls, path: Path, changed: Recipe | None = None) -> Store:
        """Lock an existing run to continue it; `changed`: a recipe that must be the run's own.

        Raises:
            RunStateError: no such run, held by another process, or the recipe differs (every
                differing key is listed).
        """
        # Also where a start was cut off before it wrote the recipe: there is nothing to lose.
        if not path.is_dir() or _is_beginning(path):
            raise RunStateError(
                f"{path}: no run here ({RECIPE} is missing). Start one with `ouroloop run RECIPE`."
            )
        if integrity.is_older(path):
            raise RunStateError(
                f"{path}: {RUN} is missing: it was deleted, or another version made the run. Put"
                " it back, or finish the run with the version that made it."
            )
        # Here and not above: recipes bring pydantic, and every view of a run loads this file.
        from ouroloop.loop.config.recipe import WITHOUT_EFFECT
        from ouroloop.loop.engines.moved import moved
        from ouroloop.loop.recipes.recipe_file import resolve

        lock = locked(path)
        try:
            # Before anything is read: what was committed is gone on from, or refused.
            integrity.refuse_damaged(path)
            written = read_json(path / RECIPE)
            # Known by what was written, wherever its inputs lie now.
            fingerprint = resolve(written, where=str(path / RECIPE)).fingerprint()
            recipe = resolve(moved(written), where=str(path / RECIPE))
            _refuse_changed(path, recipe, changed)
            if changed is not None:
                recipe = recipe.model_copy(
                    update={section: getattr(changed, section) for section in WITHOUT_EFFECT}
                )
            recipe.apply_privacy()
            store = cls(path, recipe, lock, fingerprint, ledger.repair(path))
        except BaseException:
            lock.close()
            raise
        for done in store.repairs:
            store.event(done.event, files=list(done.files), why=done.why)
        return store

    @classmethod
    def delete(cls, root: Path, name: str) -> None:
        """Delete a run and all that is in it, unless a process holds it.

        Raises:
            RunStateError: held by another process, or not a run directory.
        """
        # Where a link leads: a run may lie on another disk.
        path = (root / name).resolve()
        doomed = path.with_name(f".{path.name}.deleted.tmp")
        if doomed.exists():
            shutil.rmtree(doomed)
        if not path.exists():
            return
        # A typing error must not delete a folder of other things.
        _refuse_foreign(path)
        locked(path).close()
        # Renamed first: of half a run that a kill left, the next one would take over the rounds.
        path.rename(doomed)
        shutil.rmtree(doomed)

    def event(self, event: str, **facts: Any) -> None:
        """Append one line to events.jsonl, with its checksum."""
        self._lock.refuse_lost()
        entry = {"time": round(time.time(), 3), "event": event, **facts}
        # Opened for every line: views read the log while the run goes on, and nothing is buffered.
        ledger.append_line(self.path / EVENTS, proven(json.dumps(entry, default=str)))

    def keep(self, name: str, value: Any) -> None:
        """Write a file of the run that never changes, unless it is there already.

        Raises:
            RunStateError: it is there and holds something else, and rounds were made with it.
        """
        path, text = self.path / name, json_text(value)
        if path.exists() and path.read_bytes() != text.encode("utf-8"):
            if integrity.committed(self.path):
                raise RunStateError(
                    f"{path}: the run's rounds were made with this one, but the recipe and its data"
                    " now give another. Put the old problem files back, or start a run of another"
                    " `name`."
                )
            aside = ledger.set_aside(path)
            self.event("set_aside", files=[name], why=f"not what the recipe gives: {aside.name}")
        if not path.exists():
            write_text(path, text)

    def prove(self, checkpoint: Path) -> None:
        """Hash a committed checkpoint before it is used, once in this process.

        Raises:
            DamagedError: a file of it is not what was committed.
        """
        if checkpoint not in self._proven:
            integrity.refuse_damaged_checkpoint(self.path, checkpoint)
            self._proven.add(checkpoint)

    @property
    def is_open(self) -> bool:
        """Whether this process still holds the run and may write to it."""
        return not self._lock.closed

    def close(self) -> None:
        """Let the run go."""
        self._lock.close()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN becomes null, so that every reader can parse it."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(_finite(value), indent=1, default=str) + "\n"


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet atomically."""
    with atomic(path) as tmp:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), tmp)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a Parquet table as rows."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files in order of name."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def refuse_impossible(path: Path) -> None:
    """Refuse a run's folder that cannot be made, or written to.

    Raises:
        StorageError: a part of the path is a file, or this user may not write there.
    """
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    why = None
    if not there.is_dir():
        why = "is a file, and no folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written to by this user"
    if why:
        raise StorageError(
            f"{path}: cannot be made: {there} {why}. Name another folder ($OUROLOOP_RUNS or --runs)"
            " or change that."
        )


def refuse_taken(path: Path) -> None:
    """Refuse a folder in which no run can be started.

    Raises:
        RunStateError: it holds a run, what is left of one, or something else.
    """
    if (path / RECIPE).exists() and not (path / RUN).exists():
        raise RunStateError(
            f"{path}: holds a recipe.json but no {RUN}, so it is no run of this version. Choose"
            " another `name`, or delete the folder by hand."
        )
    if (path / RECIPE).exists():
        raise RunStateError(
            f"{path}: a run of this name exists already. Continue it with `ouroloop resume"
            f" {path.name}`, choose another `name`, or pass --fresh to delete it and start again."
        )
    _refuse_foreign(path)
    if path.exists() and not _is_beginning(path):
        raise RunStateError(
            f"{path}: a run whose {RECIPE} is missing. Put that file back from a copy of the"
            " run, choose another `name`, or pass --fresh to delete it and start again."
        )


def _refuse_foreign(path: Path) -> None:
    """Refuse a folder that holds something and was not marked by a run.

    Raises:
        RunStateError: it is such a folder, or no folder.
    """
    if not path.exists() or (path / RUN).is_file() or _is_beginning(path):
        return
    raise RunStateError(
        f"{path}: not the folder of a run ({RUN} is missing), and not empty. Nothing is written to"
        " it or deleted from it. Choose another `name`; delete the run of an older version by hand."
    )


def _is_beginning(path: Path) -> bool:
    """Whether a folder is empty, or holds what a start leaves that was killed before its recipe."""
    files = (LOCK, RUN, ENVIRONMENT, EVENTS)
    # What `atomic` had not renamed yet.
    begun = tuple(f".{name}." for name in (*files, RECIPE))
    return path.is_dir() and all(
        found.name in files or found.name.startswith(begun) for found in path.iterdir()
    )


def _refuse_changed(path: Path, recipe: Recipe, changed: Recipe | None) -> None:
    if changed is None or changed.fingerprint() == recipe.fingerprint():
        return
    from ouroloop.loop.recipes.recipe_file import differing_keys

    lines = "\n  ".join(differing_keys(recipe.to_json(), changed.to_json()))
    why = "the recipe differs from the one this run was started with"
    raise RunStateError(f"{path}: {why}:\n  {lines}\nUse the old recipe, or another `name`.")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
