"""Records of other frameworks' files: JSONL (gzipped or not), JSON, Parquet, Inspect's archives."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ouroloop.monitors.traces.files import read_file
from ouroloop.monitors.traces.rows import TraceError

# Rows of a Parquet file that are Python objects at a time.
BATCH_ROWS = 4096
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet", ".eval")

# What reading a file that was cut or damaged raises, by the library that unpacks it.
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)

Records = Iterator[tuple[str, dict[str, Any]]]


def read_records(path: Path) -> Records:
    """(place, record) of every record of a file.

    Raises:
        TraceError: the file is missing, of another kind, or not what its name says.
    """
    name = path.name
    try:
        if name.endswith((".jsonl", ".jsonl.gz")):
            for where, record in read_file(path):
                yield where, _object(record, where)
        elif name.endswith(".json"):
            yield from _json(path)
        elif name.endswith(".parquet"):
            yield from _parquet(path)
        elif name.endswith(".eval"):
            yield from _archive(path)
        else:
            raise TraceError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}.")
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file; expected what the framework wrote.") from None
    except UNREADABLE as error:
        raise TraceError(f"{path}: cannot be read ({error}).") from None


def _json(path: Path) -> Records:
    yield from _samples(_parsed(path.read_bytes(), str(path)), str(path))


def _samples(whole: Any, where: str) -> Records:
    """Of a log with `samples`, of a list, or the one record that a file is."""
    found = whole.get("samples", whole) if isinstance(whole, dict) else whole
    for number, record in enumerate(found if isinstance(found, list) else [found], start=1):
        yield f"{where}:{number}", _object(record, f"{where}:{number}")


def _archive(path: Path) -> Records:
    """A log in parts: one JSON file for each sample."""
    with zipfile.ZipFile(path) as archive:
        # What else is in it (header, summaries, journal) describes these or says them again.
        names = sorted(n for n in archive.namelist() if n.startswith("samples/"))
        for name in names:
            yield _record(archive.read(name), f"{path}:{name}")


def _parquet(path: Path) -> Records:
    import pyarrow.parquet as parquet
    from pyarrow.lib import ArrowInvalid

    first = 1
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for number, row in enumerate(batch.to_pylist(), start=first):
                    yield f"{path}:{number}", row
                first += batch.num_rows
    # ArrowInvalid is a ValueError, and no OSError: `read_records` would let it through.
    except ArrowInvalid as error:
        raise TraceError(f"{path}: no Parquet file ({error}).") from None


def _record(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    return where, _object(_parsed(line, where), where)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        # -sig: what went through Windows may begin with a byte order mark.
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where}: not JSON ({error}), got {raw[:60]!r}.") from None


def _object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise TraceError(f"{where}: got {str(record)[:60]!r}; expected an object of columns.")
    return record
