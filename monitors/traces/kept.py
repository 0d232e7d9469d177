"""The rounds that were read, kept on disk: one at a time is in memory, however many there are."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from typing import Any, overload

from ouroloop.monitors.base import RoundView


class KeptViews(Sequence[RoundView]):
    """Views in a temporary file, which goes when they do; each is read whenever it is asked for."""

    def __init__(self) -> None:
        # Gone with the last use of these views, also when the process is killed.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._starts: list[int] = []

    def append(self, view: RoundView) -> None:
        """Keep one more."""
        self._starts.append(self._file.seek(0, os.SEEK_END))
        pickle.dump(view, self._file, protocol=5)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> RoundView: ...
    @overload
    def __getitem__(self, index: slice) -> list[RoundView]: ...
    def __getitem__(self, index: Any) -> Any:
        """One view, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        self._file.seek(self._starts[index])
        return pickle.load(self._file)
