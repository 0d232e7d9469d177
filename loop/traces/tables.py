"""Our own format in the files that people have: a table of all rounds, as CSV, Parquet or JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.evals.cells import read_cells
from ouroloop.evals.errors import DataError
from ouroloop.loop.traces.records import UNREADABLE, read_records
from ouroloop.loop.traces.sorting import RowsByRound
from ouroloop.monitors.traces.clusters import TraceClusters
from ouroloop.monitors.traces.files import own_numbers, read_file
from ouroloop.monitors.traces.kept import KeptViews
from ouroloop.monitors.traces.reader import TraceReader, Traces, read_traces
from ouroloop.monitors.traces.rows import TraceError, guess, round_number

Rows = Iterator[tuple[str, Any]]

CELLS = (".csv", ".tsv")
# Bytes of a file that are looked at together.
PORTION = 2**20
TABLES = (*CELLS, ".parquet", ".json")


def read_own(
    paths: Sequence[Path | str],
    strategies: str | None = None,
    keep_order: bool = False,
    clusters: TraceClusters | None = None,
) -> Traces:
    """Read traces of docs/traces.md: one file per round, or one file with a column `round`.

    Args:
        paths: JSONL (gzipped or not), JSON, CSV, TSV or Parquet files.
        strategies: see `TraceReader`.
        keep_order: see `read_traces`.
        clusters: see `TraceReader`.

    Raises:
        TraceError: as `read_traces`, or a table that cannot be read.
    """
    if len(paths) != 1:
        return read_traces(paths, strategies, keep_order, clusters, rows_of)
    reader = TraceReader(strategies, clusters or TraceClusters())
    rounds = _by_round(rows_of(str(paths[0])), str(paths[0]))
    views = KeptViews()
    for rows in rounds.values():
        views.append(reader.read(rows, str(paths[0])))
    names = [f"{paths[0]}, round {number:g}" for number in rounds]
    if len(names) == 1:
        names = [str(paths[0])]
    return replace(reader.traces(views, names), numbers=own_numbers(reader.rounds_))


def rows_of(path: str, digest: Any = None) -> Rows:
    """(place, row) of every row of a file, by its suffix; JSONL where it says nothing else.

    Args:
        path: the file.
        digest: its `update` gets the file's bytes.

    Raises:
        TraceError: the file cannot be read, or is not what its name says.
    """
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in TABLES:
        yield from read_file(path, digest)
        return
    if digest is not None and Path(path).is_file():
        with Path(path).open("rb") as file:
            while portion := file.read(PORTION):
                digest.update(portion)
    if suffix in CELLS:
        yield from _cells(path)
    elif suffix == ".json" and not _is_list(path):
        yield from read_file(path)
    else:
        yield from read_records(Path(path))


def _by_round(rows: Rows, path: str) -> dict[float, Rows]:
    """The rows of each round, rounds ascending; all are round 0 where none names one."""
    found = RowsByRound[float | None]()
    for where, row in rows:
        number = round_number(row.get("round")) if isinstance(row, Mapping) else None
        # What is no number is one group, whose first row the reader refuses by its place.
        known = float(number) if isinstance(number, int | float) and number == number else None
        found.add(known, where, row)
    numbers = found.keys()
    if None in numbers and len(numbers) > 1:
        where, _ = next(found.rows(None))
        raise TraceError(
            f"{where}: no round, where other rows of {path} have one; expected a number in every"
            " row, or in none. Fill the column, or drop it."
        )
    known_numbers = sorted(number for number in numbers if number is not None)
    if not known_numbers:
        _refuse_misnamed(found.rows(None), path)
        return {0.0: found.rows(None)}
    return {number: found.rows(number) for number in known_numbers}


def _refuse_misnamed(rows: Rows, path: str) -> None:
    """Refuse rows of several rounds that call their round otherwise: all would be one baseline."""
    called, seen = None, set[str]()
    for _, row in rows:
        if not isinstance(row, Mapping):
            return
        called = called or guess("round", row)
        if called is None:
            return
        seen.add(str(row.get(called)))
        if len(seen) > 1:
            raise TraceError(
                f"{path}: no field 'round', got {sorted(map(str, row))}; expected a round's number"
                f" in every row of a file of several rounds. Is it what you call {called!r}? Rename"
                " that, or drop it."
            )


def _is_list(path: str) -> bool:
    """Whether a JSON file is one list; many are JSONL under another name."""
    try:
        with Path(path).open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def _cells(path: str) -> Rows:
    """Rows of a table of texts; an empty cell is a value that is not known."""
    opened: Callable[..., Any] = gzip.open if path.endswith(".gz") else open
    try:
        # -sig: Excel writes the mark.
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            for where, row in read_cells(file, path):
                # An empty id stays, for the reader to refuse: a row without one is no row.
                known = {"problem": None} if "problem" in row else {}
                filled = {name: _read(name, cell) for name, cell in row.items() if cell}
                yield where, {**known, **filled}
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file; expected a table of samples.") from None
    except DataError as error:
        raise TraceError(str(error)) from None
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise TraceError(
            f"{path}: cannot be read ({error}); expected a table with one sample a row, in UTF-8."
        ) from None


VERDICTS: Mapping[str, bool] = dict.fromkeys(("true", "1", "1.0"), True) | dict.fromkeys(
    ("false", "0", "0.0"), False
)
"""As pandas, spreadsheets and people write them; "1.0" is what pandas makes of a gap's column."""
NUMBERS = ("nll", "num_tokens", "round")
JSON = ("logprobs",)


def _read(name: str, cell: str) -> Any:
    """What a cell stands for; as it is where it does not look so, for the reader to refuse."""
    if name in ("correct", "valid", "truncated", "kept"):
        return VERDICTS.get(cell.strip().lower(), cell)
    try:
        if name in NUMBERS:
            return float(cell)
        if name in JSON or (name == "approved" and cell.lstrip().startswith("{")):
            return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return _approval(cell) if name == "approved" else cell


def _approval(cell: str) -> bool | float | str:
    """A verdict, or a score."""
    if (verdict := VERDICTS.get(cell.strip().lower())) is not None:
        return verdict
    try:
        return float(cell)
    except ValueError:
        return cell
