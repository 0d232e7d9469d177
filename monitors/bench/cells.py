"""Results in cells: a part of a CSV file each; what is there is not worked out again.

One file holds all cells of a validation; its column `cell` says which rows are whose.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

OUT = Path("docs/validation")


class Cell(NamedTuple):
    """Some rows of a file: those that bear the name; all of them for the empty name."""

    file: Path
    name: str = ""


Cells = dict[Cell, tuple[Callable[..., Any], list[tuple[Any, ...]]]]
"""Cell -> a function, and the arguments that give a row each, or a list of rows."""


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace(", ", "-").replace(" ", "-")


def write(cell: Cell, rows: Sequence[Any]) -> None:
    """Put a cell's rows (mappings or dataclasses, of the same fields) after those there are."""
    flat = [
        asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
        for row in rows
    ]
    if cell.name:
        flat = [{"cell": cell.name, **row} for row in flat]
    known = _rows(cell.file) if cell.file.exists() else ()
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and then renamed: an interrupted run leaves no half file.
    part = cell.file.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*known, *flat])
    os.replace(part, cell.file)


def read(cell: Cell) -> list[dict[str, str]]:
    """The rows of a cell, in order.

    Raises:
        FileNotFoundError: it has not been worked out.
    """
    rows = _by_cell(cell.file, cell.file.stat().st_mtime_ns).get(cell.name)
    if rows is None:
        raise FileNotFoundError(f"{cell.file}: no cell {cell.name!r}; it has not been worked out.")
    return rows


def exists(cell: Cell) -> bool:
    """Whether a cell has been worked out."""
    try:
        return bool(read(cell))
    except FileNotFoundError:
        return False


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=8)
def _by_cell(path: Path, changed_ns: int) -> dict[str, list[dict[str, str]]]:
    """Name -> its rows, without the column that names it; a changed file is read again."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path):
        found.setdefault(row.pop("cell", ""), []).append(row)
    return found


def fill(
    cells: Cells,
    workers: int = 1,
    quiet: bool = False,
) -> None:
    """Work out what is not there yet: a cell of fewer rows than runs gets those that it lacks."""
    begun = time.time()
    for number, (cell, (function, whole)) in enumerate(cells.items(), start=1):
        # Runs are in the order of their seeds, so that the rows there are of the first ones.
        todo = whole[len(read(cell)) :] if exists(cell) else whole
        if not todo:
            continue
        rows: list[Any] = []
        for done, row in enumerate(_map(function, todo, workers), start=1):
            rows += row if isinstance(row, list) else [row]
            if not quiet:
                line = (
                    f"\r{number} of {len(cells)}: {cell.file.stem}/{cell.name}: {done} of"
                    f" {len(todo)}, {time.time() - begun:.0f} s "
                )
                print(line, end="", file=sys.stderr, flush=True)
        write(cell, rows)
        if not quiet:
            print(file=sys.stderr)


def _map(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    workers: int,
) -> Iterable[Any]:
    if workers == 1:
        return (function(*a) for a in arguments)
    # Chunks of four save on sending short tasks to the workers.
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(function, *zip(*arguments, strict=True), chunksize=4))
