"""Files of traces: their lines, and whether they come in the order of the rounds."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ouroloop.monitors.traces.rows import SAMPLE, TraceError

RowsOf = Callable[[str, Any], Iterable[tuple[str, Any]]]
"""Reads a file: (path, digest of its bytes or None) -> its rows, see `read_file`."""


def read_file(path: Path | str, digest: Any = None) -> Iterator[tuple[str, Any]]:
    """("file:line", value) of each line; blank lines are skipped.

    Args:
        path: a JSONL file, gzipped if it ends in .gz.
        digest: its `update` gets the file's bytes, line by line.

    Raises:
        TraceError: the file cannot be read, or a line is not JSON.
    """
    try:
        opened = gzip.open if str(path).endswith(".gz") else open
        with opened(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if digest is not None:
                    digest.update(line)
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                # utf-8-sig: some editors put a byte-order mark before the first line.
                encoding = "utf-8-sig" if number == 1 else "utf-8"
                try:
                    yield where, json.loads(line.decode(encoding))
                except (ValueError, RecursionError) as error:
                    what = f"not JSON ({error})"
                    if isinstance(error, UnicodeDecodeError):
                        what = "not UTF-8"
                    raise TraceError(
                        f"{where}: {what}, got {line[:60]!r}; expected one object per line, such as"
                        f" {SAMPLE}."
                    ) from None
    except FileNotFoundError:
        raise TraceError(
            f"{path}: no such file; expected a JSONL file of one round's samples."
        ) from None
    # Of a gzipped file that was cut (EOFError), damaged (zlib) or is none.
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise TraceError(
            f"{path}: cannot be read ({why}); expected a JSONL file of one round's samples."
        ) from None


def number_in(path: str) -> float | None:
    """The last number in a file's name."""
    # "run2-step-010.jsonl": what counts the rounds comes last.
    # The stem only: a folder named after a date says nothing about the round.
    numbers = re.findall(r"\d+", Path(path).stem)
    return float(numbers[-1]) if numbers else None


SHELL_ORDER = (
    "A shell sorts 10 before 2: number files 00, 01, ... If this is the order, say --keep-order."
)


def ascending(
    numbers: Sequence[float | None],
    names: Sequence[str],
    what: str,
    remedy: str = SHELL_ORDER,
) -> None:
    """Complain about the first number that is less than the one before it; None: not known."""
    for i in range(1, len(names)):
        before, now = numbers[i - 1], numbers[i]
        if before is not None and now is not None and now < before:
            raise TraceError(
                f"{names[i]}: got {now:g} after {before:g} ({names[i - 1]}) in the {what}; expected"
                f" the rounds in order, the baseline first. {remedy}"
            )


def same_round(before: Sequence[float | None], now: float | None, where: str) -> None:
    """Complain about a row of another round than the rows before it in its file."""
    if before and before[0] != now:
        rounds = ["no round" if x is None else f"round {x:g}" for x in (now, before[0])]
        raise TraceError(
            f"{where}: got a row of {rounds[0]} after rows of {rounds[1]}; expected one file"
            " per round. Split the file by its `round`."
        )


def own_numbers(numbers: Sequence[float | None]) -> tuple[int, ...]:
    """A table's numbers of its rounds; none where they are 0, 1, ... anyway."""
    known = tuple(int(x) for x in numbers if x is not None)
    if len(known) < len(numbers) or known == tuple(range(len(known))):
        return ()
    return known
