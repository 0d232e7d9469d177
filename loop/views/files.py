"""The files of a run for those who only look: compared with what was committed, then read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DamagedError
from ouroloop.loop.folder.integrity import refuse_damaged_file
from ouroloop.loop.folder.lines import contradicts_itself


def read_object(run: Path, path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        DamagedError: the file is not what was committed, or no JSON object.
    """
    refuse_damaged_file(run, path)
    if not path.is_file():
        return {}
    # No manifest vouches for the files of an older run, or of a round at work.
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise _unreadable(path, "a JSON object", error) from error


def _unreadable(path: Path, expected: str, error: Exception) -> DamagedError:
    return DamagedError(
        f"{path}: damaged: expected {expected}, got {type(error).__name__}: {error}. Put the file"
        " back from a copy of the run."
    )


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of an event log; the last one may still be being written."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        # A run that works appends to its log while it is read here.
        if contradicts_itself(line):
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def read_column(path: Path, name: str) -> list[Any]:
    """One column of a round's Parquet table; empty where there is no such table or column.

    Without pandas, which takes three times as long to import as all that `watch` shows.

    Raises:
        DamagedError: the file is not what was committed, or no Parquet table.
    """
    import pyarrow.parquet as pq

    # Before its run is looked for: rounds that were judged from traces lie in no folder.
    if not path.is_file():
        return []
    refuse_damaged_file(path.parents[2], path)
    try:
        with pq.ParquetFile(path) as table:
            if name not in table.schema_arrow.names:
                return []
            return list(table.read([name]).column(name).to_pylist())
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise _unreadable(path, "a Parquet table", error) from error


def read_table(path: Path) -> Any:
    """A round's Parquet table as a pandas DataFrame; empty where there is none.

    Raises:
        DamagedError: the file is not what was committed, or no Parquet table.
    """
    # Here, not above: pandas is slow to import, and most commands show no table.
    import pandas as pd

    refuse_damaged_file(path.parents[2], path)
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise _unreadable(path, "a Parquet table", error) from error
