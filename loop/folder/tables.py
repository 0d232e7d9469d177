"""Dataclasses as files: Parquet tables and JSON records, each derived from its type.

A field's annotation is all that is needed: `str`, `bool`, `int`, `float`, a Literal or an enum of
words, each of them or None, tuples of them, other dataclasses (JSON only). `Annotated[int,
"int32"]` asks for a narrower Parquet type. Knows no table of its own: `round.py` names them. How a
record becomes JSON and back is `monitors/records.py`.
"""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin
from typing import get_type_hints as hints_of

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.storage import atomic
from ouroloop.monitors import records

T = TypeVar("T")
PLAIN = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


# -- Parquet ------------------------------------------------------------------


def schema_of(record: type) -> pa.Schema:
    """The Parquet schema of a dataclass, its fields in their order.

    Raises:
        TypeError: a field's type has no place in a table.
    """
    hints = hints_of(record, include_extras=True)
    names = [field.name for field in fields(record)]
    return pa.schema([(name, _arrow(hints[name], f"{record.__name__}.{name}")) for name in names])


def write_table(path: Path, rows: Sequence[T], record: type[T]) -> None:
    """Write records as a Parquet table, atomically."""
    schema = schema_of(record)
    # Columns from the records directly: no dictionary for every row between them.
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), temporary)


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet table, as Arrow has them."""
    return pq.read_table(path, columns=list(names))


def read_table(path: Path, record: type[T], rows: Sequence[int] | None = None) -> tuple[T, ...]:
    """Read a Parquet table as records; a column that it lacks takes the field's default.

    rows: the numbers of those that are wanted, in the order in which they are returned.

    Raises:
        RunStateError: a column is missing that every row needs.
    """
    table = pq.read_table(path)
    if rows is not None:
        table = table.take(pa.array(rows, pa.int64()))
    columns: dict[str, list[Any]] = {}
    for name, read in records.readers(cast(Hashable, record)).items():
        # Runs outlive versions: a column that came later has a default in the record.
        if name not in table.column_names:
            if name in records.required(cast(Hashable, record)):
                raise _missing(name, path)
            continue
        values = table.column(name).to_pylist()
        columns[name] = values if read is None else [read(value) for value in values]
    return tuple(record(**dict(zip(columns, row, strict=True))) for row in _transposed(columns))


def _transposed(columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*columns.values(), strict=True)


def _arrow(hint: Any, where: str) -> pa.DataType:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *notes = get_args(hint)
        for note in notes:
            if isinstance(note, str):
                return pa.type_for_alias(note)
        return _arrow(inner, where)
    if origin in (Union, types.UnionType):
        (inner,) = [kind for kind in get_args(hint) if kind is not type(None)]
        return _arrow(inner, where)
    if origin is tuple:
        return pa.list_(_arrow(get_args(hint)[0], where))
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, str)):
        return pa.string()
    if hint in PLAIN:
        return PLAIN[hint]
    raise TypeError(f"{where}: a table has no column for {hint!r}; expected one of {list(PLAIN)}")


# -- JSON ---------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """A record as plain JSON values: fields in their order, tuples as lists.

    A class that has a `to_json` of its own decides for itself.
    """
    own = getattr(value, "to_json", None)
    return records.to_json(value) if own is None else own()


def from_json(record: type[T], raw: Any, where: Path | str = "") -> T:
    """The inverse of `to_json`. Keys that the record does not know are left out.

    null stands for NaN where a number cannot be missing.

    Raises:
        RunStateError: a key is missing that has no default.
    """
    own = getattr(record, "from_json", None)
    try:
        return records.from_json(record, raw) if own is None else cast(T, own(raw))
    except records.MissingFieldError as error:
        raise _missing(error.name, where) from error


def _missing(name: str, where: Path | str) -> RunStateError:
    return RunStateError(
        f"{where}: {name!r} is missing; expected what runs/README.md lists for this file."
        " It was written by another version: go on with that one, or start a new run."
    )
