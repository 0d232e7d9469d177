"""The rows of a file, a folder or a data set of the Hugging Face hub, each with its place.

JSONL, JSON, CSV, TSV and parquet files are read here, without any network. Folders and names of the
hub go through the library `datasets` (extra `run`), which also answers from its cache.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.evals.cells import read_cells
from ouroloop.evals.errors import DataError

Row = Mapping[str, Any]
SAMPLE = '{"question": "What is 2+3?", "answer": "5"}'
HUB_REMEDY = (
    "Where no hub can be reached, copy its parquet, CSV or JSONL file here and give that file as"
    " task.path."
)


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        path: A file, a folder of files, or the name of a data set on the hub (`openai/gsm8k`).
        name: The data set's configuration, of folders and names alone.
        split: Its split; a file has one, `train`.
    """

    path: str
    name: str | None = None
    split: str = "train"

    @classmethod
    def of(cls, given: str | Path | Source) -> Source:
        """A source, or the file at a path as one."""
        return given if isinstance(given, Source) else cls(str(given))

    def __str__(self) -> str:
        details = [part for part in (self.name, self.split) if part and part != "train"]
        return f"{self.path} ({', '.join(details)})" if details else self.path


def read_rows(given: str | Path | Source) -> Iterator[tuple[str, Row]]:
    """(place, row) of every row; a place is file:line, or the source and the row's number.

    Raises:
        DataError: the source is missing or not readable; the message names the place.
    """
    source = Source.of(given)
    path = Path(source.path)
    if path.is_dir() or _is_hub_name(path):
        yield from _with_datasets(source)
        return
    if source.name is not None or source.split != "train":
        raise DataError(
            f"{path}: got a configuration or a split ({source.name or source.split}) for a file,"
            " which has none. Leave task.name, task.split and task.heldout_split out; held-out"
            " problems in a file of their own are task.heldout_path."
        )
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from read_cells(io.StringIO(_text(path), newline=""), str(path))
    else:
        yield from _json(path)


def _is_hub_name(path: Path) -> bool:
    """Whether a path that is not there can be a hub's `name` or `organisation/name`."""
    # A recipe's paths of files are absolute by now: see `recipe_file`.
    is_short = not path.is_absolute() and 1 <= len(path.parts) <= 2 and path.parts[0] != ".."
    return is_short and not path.suffix and not path.exists()


# --- files ---


def _text(path: Path) -> str:
    """A file as text."""
    try:
        # "utf-8-sig" drops the mark that Windows editors put first.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; expected a JSONL, JSON, CSV or parquet file of problems. Paths"
            " in a recipe are relative to the recipe."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text (byte {error.start}); expected a JSONL, JSON or CSV file."
            " Convert it, e.g. with iconv -t UTF-8; a parquet file's name ends in .parquet."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a file of problems."
        ) from None


def _json(path: Path) -> Iterator[tuple[str, Row]]:
    """One JSON object a line; a .json file may also hold one list of objects."""
    text = _text(path)
    if path.suffix == ".json" and text.lstrip().startswith("["):
        for number, row in enumerate(_loads(text, str(path)), start=1):
            yield _checked(row, f"{path}, row {number}")
        return
    # Only "\n" ends a line: JSON strings may hold U+2028, which splitlines would break.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield _checked(_loads(line, where), where)


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    # A line of 100,000 brackets is data too.
    except (RecursionError, ValueError) as error:
        raise DataError(
            f"{where}: not JSON ({error}), got {text[:60]!r}; expected one object per line, such as"
            f" {SAMPLE}."
        ) from None


def _checked(row: Any, where: str) -> tuple[str, Row]:
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: got a JSON {type(row).__name__}; expected an object, such as {SAMPLE}."
        )
    return where, row


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file. Paths in a recipe are relative to the recipe."
        ) from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read as parquet ({reason}); expected a parquet file."
        ) from None
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}, row {number}", row


# --- through the library `datasets` ---


def _with_datasets(source: Source) -> Iterator[tuple[str, Row]]:
    """A folder of files, or a name: from the hub, or from the library's cache."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    # Its retries where no network is; our own sentence says it better.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        found = datasets.load_dataset(source.path, source.name, split=source.split)
    except (DatasetNotFoundError, FileNotFoundError) as error:
        raise DataError(
            f"task.path: {source.path}: neither a file nor a data set that the hub shows here"
            f" ({_first_line(error)}). {HUB_REMEDY}"
        ) from None
    except (ConnectionError, OSError) as error:
        raise DataError(
            f"task.path: {source.path}: no such file, and no hub answers ({_first_line(error)}),"
            f" nor is it in the cache of `datasets`. {HUB_REMEDY}"
        ) from None
    except Exception as error:
        # A wrong configuration or split; the library's sentence names those that there are.
        raise DataError(
            f"task.path: {source}: {_first_line(error.__cause__ or error)}. task.name names a"
            " configuration, task.split and task.heldout_split the splits."
        ) from None
    for number, row in enumerate(found, start=1):
        yield f"{source}, row {number}", row


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
