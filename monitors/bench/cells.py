"""Results in cells: one small CSV file each, written when it is done, skipped when it is there."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

OUT = Path("docs/validation")
Cells = dict[Path, tuple[Callable[..., Any], list[tuple[Any, ...]]]]
"""File -> a function, and the arguments that give a row each, or a list of rows."""


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace(", ", "-").replace(" ", "-")


def write(path: Path, rows: Sequence[Any]) -> None:
    """Rows (mappings or dataclasses, of the same fields) as CSV, in one go."""
    flat = [
        asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    os.replace(part, path)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a cell."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fill(cells: Cells, workers: int = 1, quiet: bool = False) -> None:
    """Work out every cell that is not there yet."""
    begun = time.time()
    for number, (path, (function, todo)) in enumerate(cells.items(), start=1):
        if path.exists():
            continue
        rows: list[Any] = []
        for done, row in enumerate(_map(function, todo, workers), start=1):
            rows += row if isinstance(row, list) else [row]
            if not quiet:
                line = (
                    f"\r{number} of {len(cells)}: {path.parent.name}/{path.stem}: {done} of"
                    f" {len(todo)}, {time.time() - begun:.0f} s "
                )
                print(line, end="", file=sys.stderr, flush=True)
        write(path, rows)
        if not quiet:
            print(file=sys.stderr)


def _map(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], workers: int
) -> Iterable[Any]:
    if workers == 1:
        return (function(*a) for a in arguments)
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(function, *zip(*arguments, strict=True), chunksize=4))
