"""The benchmark's files: a Parquet table of samples for each run, and one of all runs.

FOLDER/lock.json          what the simulated runs were made of
FOLDER/runs.parquet       a row a run: where it comes from, and what is true of it
FOLDER/traces/RUN.parquet a row a sample, with the columns of docs/traces.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.errors import DataError
from ouroloop.loop.folder.storage import atomic
from ouroloop.monitors.bench.alarms.evaluate import RunFacts
from ouroloop.monitors.bench.alarms.simulation import OUTCOMES

RUNS = "runs.parquet"
TRACES = "traces"
LOCK = "lock.json"

# A file's names occur in every row: as a dictionary they are stored once.
_NAME = pa.dictionary(pa.int32(), pa.string())
SAMPLES = pa.schema(
    [
        ("run", _NAME),
        ("regime", _NAME),
        ("world", pa.int16()),
        ("seed", pa.int32()),
        ("round", pa.int16()),
        ("family", _NAME),
        ("slice", _NAME),
        ("problem", _NAME),
        ("sample", pa.int16()),
        ("correct", pa.bool_()),
        ("strategy", _NAME),
        ("answer", _NAME),
    ]
)
"""A row a sample. World and seed are null for a real run; `correct` is null for unscored."""

FACTS = pa.schema(
    [
        ("run", pa.string()),
        ("kind", pa.string()),
        ("regime", pa.string()),
        ("healthy", pa.bool_()),
        ("world", pa.int16()),
        ("seed", pa.int32()),
        ("split", pa.string()),
        ("rounds", pa.int16()),
        ("onset", pa.int16()),
        *((outcome, pa.int16()) for outcome in OUTCOMES),
    ]
)
"""A row a run; an outcome's column holds the round in which it is truly lost, 0 for never."""


def write_samples(folder: Path, facts: RunFacts, columns: Mapping[str, Any]) -> None:
    """Write a run's samples, atomically."""
    num = len(columns["round"])
    arrays = []
    for column in SAMPLES:
        if column.name in columns:
            values = pa.array(columns[column.name], from_pandas=True)
        else:
            # The run's own facts, in every row: a file can be read without runs.parquet.
            values = pa.repeat(pa.scalar(getattr(facts, column.name)), num)
        if pa.types.is_dictionary(column.type):
            values = values.cast(pa.string()).dictionary_encode()
        arrays.append(values.cast(column.type))
    path = samples_path(folder, facts.run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SAMPLES), temporary, compression="zstd")


def samples_path(folder: Path, run: str) -> Path:
    """Where a run's samples lie."""
    return folder / TRACES / f"{run}.parquet"


READ = ("round", "family", "slice", "problem", "correct", "strategy", "answer")


def read_samples(path: Path) -> dict[str, Any]:
    """The columns that detectors read, as arrays; null becomes None.

    Raises:
        DataError: no such file, or it lacks a column.
    """
    try:
        table = pq.read_table(path, columns=list(READ))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: cannot be read as a run's samples ({error}); expected Parquet with the"
            f" columns {', '.join(READ)}. Make the folder anew with --fresh."
        ) from None
    if missing := [name for name in READ if name not in table.column_names]:
        raise DataError(
            f"{path}: no column {missing[0]!r}; expected {', '.join(READ)}. docs/alarms.md"
            " describes the files."
        )
    return {name: _array(table.column(name)) for name in READ}


def _array(column: Any) -> Any:
    """A column as an array; names by their dictionary, so that no row is decoded by itself."""
    column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        return column.to_numpy(zero_copy_only=False)
    names = np.array([*column.dictionary.to_pylist(), None], dtype=object)
    return names[column.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def write_facts(folder: Path, facts: Sequence[RunFacts]) -> None:
    """Write the table of all runs, atomically."""
    rows = []
    for each in facts:
        plain = {name: getattr(each, name) for name in FACTS.names if name not in OUTCOMES}
        rows.append({**plain, **{name: each.events.get(name) for name in OUTCOMES}})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / RUNS) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=FACTS), temporary)


def read_lock(folder: Path) -> Any:
    """What the folder's simulated runs were made of; None for a new folder."""
    path = folder / LOCK
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_lock(folder: Path, lock: Mapping[str, Any]) -> None:
    """Say what the simulated runs are made of, before the first of them is."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / LOCK) as temporary:
        temporary.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
