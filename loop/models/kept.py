"""Model folders that are made once and kept in the cache, outside the repository.

    models/NAME/       the checkpoint's folder
    models/NAME.json   written last: what it was made from, and bytes and sha256 of each file
    models/NAME.lock   held by the process that makes it
    models/NAME.log    what the conversion printed

A folder without its record is what an interruption left, and is made again.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ouroloop.loop.cache import cache_root
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.folder.store import sha256_of, write_json

# Makes the folder's files in an empty folder; returns facts for the record.
Maker = Callable[[Path], Mapping[str, Any]]


def models_root() -> Path:
    """The folder of all converted models."""
    return cache_root() / "models"


def say(text: str) -> None:
    """One line of progress: getting a model may take minutes, and happens before the run's view."""
    print(text, file=sys.stderr, flush=True)


def made_once(name: str, make: Maker) -> Path:
    """The kept folder of this name, made first if it is not there.

    Two processes at once: one makes it, the other waits.

    Args:
        name: of the folder; it stands for everything that the content depends on.
        make: called with an empty folder beside the final one.

    Raises:
        CheckpointError: the cache cannot be written, or `make` refuses.
    """
    if is_whole(name):
        return models_root() / name
    try:
        models_root().mkdir(parents=True, exist_ok=True)
        with _alone(name):
            # Another process may have made it while this one waited.
            if not is_whole(name):
                _make(name, make)
    except OSError as error:
        raise CheckpointError(
            f"{models_root()}: the cache of models cannot be written ({error}). Set OUROLOOP_CACHE"
            " to a folder with enough free space."
        ) from error
    return models_root() / name


def is_whole(name: str) -> bool:
    """Whether the folder is finished and every file has the size that was recorded.

    Sizes and not sums: reading all weights at every start of a command would take seconds.
    """
    folder = models_root() / name
    try:
        record = json.loads(_record(name).read_text(encoding="utf-8"))
        return all(
            (folder / file).stat().st_size == entry["bytes"]
            for file, entry in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def log_path(name: str) -> Path:
    """Where a conversion's output goes."""
    return models_root() / f"{name}.log"


def _record(name: str) -> Path:
    return models_root() / f"{name}.json"


def _make(name: str, make: Maker) -> None:
    folder = models_root() / name
    if folder.exists():
        say(f"{folder}: incomplete or changed; it is made again")
    temporary = folder.with_name(f".{name}.tmp")
    _record(name).unlink(missing_ok=True)
    for leftover in (temporary, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        facts = make(temporary)
        files = {
            file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in sorted(temporary.iterdir())
        }
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # Last: only with its record does the folder count.
    write_json(_record(name), {**facts, "files": files})
    say(f"{name}: ready in {folder}")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """While no other process makes the same folder."""
    with (models_root() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process is making it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
