"""Dataclasses as files: Parquet tables, JSON records and journals, each derived from its type.

A field's annotation is all that is needed: `str`, `bool`, `int`, `float`, a Literal or an enum of
words, each of them or None, tuples of them, other dataclasses (JSON only). `Annotated[int,
"int32"]` asks for a narrower Parquet type. Knows no table of its own: `round.py` names them.
"""

from __future__ import annotations

import json
import math
import os
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin
from typing import get_type_hints as hints_of

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.errors import RunStateError
from ouroloop.loop.records import Decimals
from ouroloop.loop.store import atomic

T = TypeVar("T")
Convert = Callable[[Any], Any]
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
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), temporary)


def read_table(path: Path, record: type[T]) -> tuple[T, ...]:
    """Read a Parquet table as records; a column that it lacks takes the field's default.

    Raises:
        RunStateError: a column is missing that every row needs.
    """
    table = pq.read_table(path)
    convert = _converters(cast(Hashable, record))
    columns: dict[str, list[Any]] = {}
    for field in fields(record):  # type: ignore[arg-type]
        if field.name not in table.column_names:
            columns[field.name] = [_default(field, path)] * table.num_rows
            continue
        values = table.column(field.name).to_pylist()
        made = convert[field.name]
        columns[field.name] = values if made is None else [made(value) for value in values]
    return tuple(record(**dict(zip(columns, row, strict=True))) for row in _transposed(columns))


def _transposed(columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*columns.values(), strict=True)


def _arrow(hint: Any, where: str) -> pa.DataType:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *notes = get_args(hint)
        named = [note for note in notes if isinstance(note, str)]
        return pa.type_for_alias(named[0]) if named else _arrow(inner, where)
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
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        decimals = _decimals(type(value))
        plain = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return plain | {name: _rounded(plain[name], count) for name, count in decimals.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(record: type[T], raw: Any, where: Path | str = "") -> T:
    """The inverse of `to_json`. Keys that the record does not know are left out.

    null stands for NaN where a number cannot be missing.

    Raises:
        RunStateError: a key is missing that has no default.
    """
    own = getattr(record, "from_json", None)
    if own is not None:
        return cast(T, own(raw))
    if not is_dataclass(record):
        return cast(T, raw)
    values = {}
    for name, convert in _converters(record).items():
        if name in raw:
            values[name] = raw[name] if convert is None else convert(raw[name])
        else:
            values[name] = _default(_field(record, name), where)
    return record(**values)


class Journal(Generic[T]):
    """Append-only JSON lines of records.

    A line torn by a crash is dropped when the journal is opened again.
    """

    def __init__(self, path: Path, record: type[T]) -> None:
        self.path = path
        self.records = [from_json(record, json.loads(line), path) for line in self._whole_lines()]
        self._file = path.open("a", encoding="utf-8")

    def append(self, records: Iterable[T]) -> None:
        """Append records in one write and flush them."""
        new = list(records)
        lines = [json.dumps(to_json(record), separators=(",", ":")) + "\n" for record in new]
        self._file.write("".join(lines))
        self._file.flush()
        self.records += new

    def close(self) -> None:
        """Flush to disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _whole_lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        good = data.rfind(b"\n") + 1
        if good < len(data):
            os.truncate(self.path, good)
        return data[:good].splitlines()


# -- how a value comes back from a file ----------------------------------------


@cache
def _converters(record: Hashable) -> Mapping[str, Convert | None]:
    """Field -> how its value is made of what a file holds; None: it is taken as it is."""
    hints = hints_of(record)
    return {field.name: _converter(hints[field.name]) for field in fields(cast(Any, record))}


def _converter(hint: Any) -> Convert | None:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (inner,) = [kind for kind in get_args(hint) if kind is not type(None)]
        return _optional(None if inner is float else _converter(inner))
    if origin is tuple:
        return _tuple_of(_converter(get_args(hint)[0]))
    if hint is float:
        return _number
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if is_dataclass(hint):
        return partial(from_json, cast(type, hint))
    return None


def _number(raw: float | None) -> float:
    return math.nan if raw is None else float(raw)


def _optional(made: Convert | None) -> Convert | None:
    if made is None:
        return None
    return lambda raw: None if raw is None else made(raw)


def _tuple_of(item: Convert | None) -> Convert:
    if item is None:
        return tuple
    return lambda raw: tuple(item(part) for part in raw)


@cache
def _decimals(record: type) -> Mapping[str, int]:
    found = {}
    for name, hint in hints_of(record, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Decimals):
                found[name] = note.count
    return found


def _rounded(value: Any, count: int) -> Any:
    return (
        [round(part, count) for part in value] if isinstance(value, list) else round(value, count)
    )


def _field(record: type, name: str) -> Field[Any]:
    return next(field for field in fields(record) if field.name == name)


def _default(field: Field[Any], where: Path | str) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise RunStateError(
        f"{where}: {field.name!r} is missing; expected what runs/README.md lists for this file."
        " It was written by another version: go on with that one, or start a new run."
    )
