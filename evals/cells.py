"""Tables of texts as spreadsheets, pandas and people write them: CSV, and other separators."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import TextIO

from ouroloop.evals.errors import DataError

SEPARATORS = ",;\t"
"""Spreadsheets of many countries write semicolons."""
# A long completion is one cell: the module's own limit is 128 KiB.
MOST_CHARACTERS = 2**27


def read_cells(file: TextIO, path: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """("file:line", column -> cell) of each row; an empty cell is None.

    No type is guessed: `007` stays `007`. The first line names the columns, without the blanks
    around them, and its most frequent separator is that of all.

    Args:
        file: opened with `newline=""`, as a cell may hold line ends of its own.
        path: for messages.

    Raises:
        DataError: a name that stands twice, a row with another number of cells, open quotes.
    """
    csv.field_size_limit(MOST_CHARACTERS)
    header = file.readline()
    separator = max(SEPARATORS, key=header.count)
    table = csv.reader(chain([header], file), delimiter=separator, strict=True)
    try:
        names = [name.strip() for name in next(table, [])]
        # Of two columns of one name the first would be lost silently.
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise DataError(
                f"{path}:1: the header names the column {twice[0]!r} twice; expected each name"
                " once. Rename or remove one."
            )
        for cells in table:
            if not cells:
                continue
            where = f"{path}:{table.line_num}"
            if len(cells) != len(names):
                raise DataError(
                    f"{where}: got {len(cells)} cells, the header has {len(names)}; expected one"
                    f' for each. Put a text that holds {separator!r} in double quotes ("...").'
                )
            yield where, {name: cell or None for name, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise DataError(
            f"{path}:{table.line_num}: not CSV ({error}); expected a header and one row a line,"
            ' texts with commas, quotes or line ends in double quotes ("...", "" for a quote).'
        ) from None
