"""Dataclasses to plain JSON values and back, by their annotations alone.

A field that is added to a record is in its JSON at once. What JSON cannot hold is written so that
it can be read back: NaN as null, an enum as its value, and an id (a class with `parse`) as its
text, which is how ids can be the keys of a mapping.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from functools import cache, partial
from math import isfinite, nan
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

# How a field's value is made of what a file holds; None: it is taken as it is.
Reader = Callable[[Any], Any] | None


@dataclasses.dataclass(frozen=True)
class Decimals:
    """Annotation of a field: how many decimals of its numbers a JSON file keeps."""

    count: int


class MissingFieldError(TypeError):
    """A field without a default has no key.

    Attributes:
        name: of the field.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind}: {name!r} is missing, and has no default")
        self.name = name


# -- writing ------------------------------------------------------------------

# Types whose values are JSON as they are.
_PLAIN = frozenset({str, int, bool, type(None)})


def to_json(value: Any) -> Any:
    """The value as dicts, lists, texts, numbers, booleans and None."""
    # First what there is most of: a sample holds thousands of token ids and log-probabilities.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if isfinite(value) else None
    if kind is tuple or kind is list:
        return [item if type(item) in _PLAIN else to_json(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    # Before dataclasses: an id may be one, and is written as one text.
    if hasattr(type(value), "parse"):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        for name, count in _decimals(type(value)).items():
            plain[name] = _rounded(plain[name], count)
        return plain
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    # JSON has neither NaN nor infinity.
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


@cache
def _decimals(record: type) -> Mapping[str, int]:
    found = {}
    for name, hint in get_type_hints(record, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Decimals):
                found[name] = note.count
    return found


def _rounded(value: Any, count: int) -> Any:
    if isinstance(value, list):
        return [_rounded(item, count) for item in value]
    return value if value is None else round(value, count)


# -- reading ------------------------------------------------------------------


def from_json(kind: type[T], raw: Any) -> T:
    """What `to_json` made of a `kind`, as a `kind` again.

    Keys that the dataclass does not have are left out, and fields without a key keep their
    default, so that a file of another version can be read as far as the two agree.

    Args:
        kind: a dataclass of numbers, texts, enums, ids, tuples, mappings, dataclasses, and unions
            of one of these with None.
        raw: parsed JSON.

    Raises:
        MissingFieldError: a field without a default has no key.
        ValueError: a value that the annotation does not allow, such as an unknown enum member.
    """
    read = _reader(kind)
    return cast(T, raw if read is None else read(raw))


@cache
def readers(record: Hashable) -> Mapping[str, Reader]:
    """Field -> how its value is made of what a file holds."""
    # Once per class: a journal has thousands of lines, and hints are slow to resolve.
    hints = get_type_hints(record)
    return {field.name: _reader(hints[field.name]) for field in _fields(record)}


@cache
def required(record: Hashable) -> frozenset[str]:
    """The fields without a default."""
    absent = dataclasses.MISSING
    return frozenset(
        field.name
        for field in _fields(record)
        if field.default is absent and field.default_factory is absent
    )


def _fields(record: Hashable) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast(Any, record))


def _read_record(record: Any, raw: Mapping[str, Any]) -> Any:
    values = {}
    for name, read in readers(record).items():
        if name in raw:
            values[name] = raw[name] if read is None else read(raw[name])
        elif name in required(record):
            raise MissingFieldError(record.__name__, name)
    return record(**values)


def _reader(kind: Any) -> Reader:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in parts if part is not type(None))
        # A number or None keeps its None; only a plain float's null is NaN.
        return None if inner is float else _optional(_reader(inner))
    # `tuple[X, ...]` has the origin `tuple` and the parts (X, ...).
    if origin is tuple:
        return _each(tuple, _reader(parts[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_reader(parts[0]), _reader(parts[1]))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _each(list, _reader(parts[0]))
    if kind is float:
        return _number
    if hasattr(kind, "parse"):
        return cast(Reader, kind.parse)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if dataclasses.is_dataclass(kind):
        return partial(_read_record, kind)
    return None


def _number(raw: float | None) -> float:
    # The only null that is no None: a number that was undefined.
    return nan if raw is None else float(raw)


def _optional(read: Reader) -> Reader:
    if read is None:
        return None
    return lambda raw: None if raw is None else read(raw)


def _each(made: Callable[[Any], Any], read: Reader) -> Reader:
    if read is None:
        return made
    return lambda raw: made(read(item) for item in raw)


def _mapping(read_key: Reader, read_value: Reader) -> Reader:
    def read(raw: Mapping[str, Any]) -> dict[Any, Any]:
        keys = raw if read_key is None else map(read_key, raw)
        values = raw.values() if read_value is None else map(read_value, raw.values())
        return dict(zip(keys, values, strict=True))

    return read
