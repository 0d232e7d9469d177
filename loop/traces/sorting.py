"""Rows of a file that holds several rounds, by round, without having all of them in memory."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class RowsByRound(Generic[Key]):
    """(place, row) pairs in a temporary file, found again by the round that they belong to."""

    def __init__(self) -> None:
        # Gone with the last use of these rows, also when the process is killed.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        # Eight bytes a row are all that stays in memory.
        self._starts: dict[Key, array[int]] = {}

    def add(self, key: Key, where: str, row: Any) -> None:
        """One row of the round `key`."""
        self._starts.setdefault(key, array("Q")).append(self._file.tell())
        pickle.dump((where, row), self._file, protocol=5)

    def keys(self) -> list[Key]:
        """The rounds, in the order of their first rows."""
        return list(self._starts)

    def rows(self, key: Key) -> Iterator[tuple[str, Any]]:
        """The rows of one round in the order in which they were added."""
        for start in self._starts.get(key, ()):
            self._file.seek(start)
            yield pickle.load(self._file)
