"""Rows of a round as the cells of a table: for `ouroloop show`."""

from __future__ import annotations

from typing import Any

from ouroloop.loop.views.reader import Json
from ouroloop.loop.views.statistics import DASH

BAR = "  | "
# Characters of a text in a table's cell.
CELL_WIDTH = 72


def records_of(table: Any) -> list[Json]:
    """A table's rows; what is unknown is None, never NaN."""
    rows: list[Json] = table.astype(object).where(table.notna(), None).to_dict("records")
    for row in rows:
        # pandas reads a list as an array.
        if "reasons" in row:
            row["reasons"] = [str(reason) for reason in row["reasons"]]
    return rows


def names_of(row: Json) -> list[str]:
    """The strategy and the response cluster, those that there are."""
    found = (row.get("strategy"), row.get("cluster"))
    # pandas has NaN for some unknown values.
    return [name for name in found if isinstance(name, str)]


def is_scored(row: Json) -> bool:
    """Whether it is known if the sample is right."""
    # Of a frame, and not of `records_of`, what is unknown may be NaN.
    return row.get("correct") in (True, False)


def strategy_of(row: Json) -> str:
    """The strategy, if there is one; of a sample that nobody scored rather its response cluster."""
    names = names_of(row)
    return next(iter(names if is_scored(row) else reversed(names)), "")


def named_by(row: Json) -> str:
    """What `strategy_of` is the name of."""
    is_cluster = strategy_of(row) != row.get("strategy") and bool(names_of(row))
    return "response cluster" if is_cluster else "strategy"


def verdict_of(row: Json) -> str:
    """Kept, or every reason against it."""
    if row["kept"]:
        return "kept"
    return f"rejected ({', '.join(one_line(reason) for reason in row['reasons'])})"


def yes_no(value: Any) -> str:
    """Of a flag, or of 1 and 0; unscored is neither."""
    if value is None:
        return DASH
    return "yes" if value else "no"


def one_line(text: object) -> str:
    """A text as a cell: one line, no bar that would end the cell, not too wide."""
    line = " ".join(str(text).split()).replace("|", "¦")
    if len(line) > CELL_WIDTH:
        return f"{line[: CELL_WIDTH - 3]}..."
    return line


def behind_a_bar(label: str, text: str) -> list[str]:
    """A label, and below it every line of the text behind a bar."""
    return [label, *(f"{BAR}{line}" for line in text.strip().splitlines() or [""])]
