"""Sizes and SHA-256 sums of files, and JSON files that are sealed with their own.

Files are hashed whenever they are looked at. A time of change or an inode that is still the same
proves nothing: a failing disk alters bytes without touching either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DamagedError

# The folder of a run that holds its rounds.
ROUNDS = "rounds"
SEAL = "sha256"
REMEDY = (
    "Put the file back from a copy of the run. Without one: delete the folder of the first damaged"
    " round and those of all later rounds, and `ouroloop resume` makes them again; where a file"
    " outside `rounds` is damaged, start the run again under another `name`. `ouroloop verify RUN`"
    " looks at every file."
)


def round_folder(run: Path, number: int) -> Path:
    """The folder of a run's round, whether it is there or not."""
    return run / ROUNDS / f"{number:03d}"


@dataclass(frozen=True)
class Sum:
    """What a file must be: its size in bytes and its SHA-256 in hexadecimal digits."""

    bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes, sha256 {self.sha256[:12]}"


class Status(StrEnum):
    """What was found of a file: as promised, not there, of another size, of other content.

    pruned: not there, and the run itself took it away (`retention.py`).
    """

    OK = "ok"
    PRUNED = "pruned"
    MISSING = "missing"
    SIZE = "size"
    CONTENT = "sha256"


@dataclass(frozen=True)
class Check:
    """One file of a run, compared with what was promised.

    file: relative to the run. expected, got: for people.
    """

    file: str
    status: Status
    expected: str = ""
    got: str = ""

    @property
    def is_damaged(self) -> bool:
        """Whether something is wrong with it."""
        return self.status not in (Status.OK, Status.PRUNED)

    @property
    def round(self) -> str:
        """The number of the round that the file belongs to; empty for a file of the run."""
        folder, *rest = self.file.split("/")
        return str(int(rest[0])) if folder == ROUNDS else ""

    @property
    def name(self) -> str:
        """The file relative to its round, or to the run."""
        return self.file.split("/", 2)[2] if self.round else self.file

    def __str__(self) -> str:
        return f"{self.file}: {self.status}: expected {self.expected}, got {self.got}"


def sum_of(path: Path) -> Sum:
    """The size and the SHA-256 of a file, read once."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
            size += len(block)
    return Sum(size, digest.hexdigest())


def examine(run: Path, file: str, wanted: Sum, hashing: bool = True) -> Check:
    """One file compared with its sum. hashing: false compares its size alone."""
    path = run / file
    if not path.is_file():
        return Check(file, Status.MISSING, str(wanted), "no such file")
    size = path.stat().st_size
    if size != wanted.bytes:
        return Check(file, Status.SIZE, str(wanted), f"{size:,} bytes")
    if hashing and (found := sum_of(path)) != wanted:
        return Check(file, Status.CONTENT, str(wanted), str(found))
    return Check(file, Status.OK)


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the SHA-256 of its own text as its last key."""
    return {**value, SEAL: hashlib.sha256(_text(value).encode("utf-8")).hexdigest()}


def unseal(path: Path) -> dict[str, Any]:
    """A sealed JSON object as it was given to `sealed`.

    Raises:
        DamagedError: a byte of the file is not as it was written.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        seal = value.pop(SEAL)
    except FileNotFoundError:
        raise damaged(path, "a sealed JSON file", "no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(path, "a sealed JSON file", "something else") from None
    # The text as well: a byte that changes between two equal values is a damaged byte too.
    if sealed(value)[SEAL] != seal or _text({**value, SEAL: seal}) != text:
        raise damaged(path, "the text that its seal was taken of", "another one")
    return dict(value)


def _text(value: Mapping[str, Any]) -> str:
    # As `store.write_json` writes it.
    return json.dumps(value, indent=1) + "\n"


def damaged(path: Path, expected: str, got: str) -> DamagedError:
    """The error of a file that is not as it was written, with the remedy."""
    return DamagedError(f"{path}: damaged: expected {expected}, got {got}. {REMEDY}")


def sum_of_text(text: str) -> Sum:
    """The sum of the file that holds this text."""
    data = text.encode("utf-8")
    return Sum(len(data), hashlib.sha256(data).hexdigest())
