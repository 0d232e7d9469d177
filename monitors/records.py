"""Dataclasses to plain JSON values and back, by their annotations alone.

A field that is added to a record is in its JSON at once. What JSON cannot hold is written so that
it can be read back: NaN as null, an enum as its value, and an id (a class with `parse`) as its
text, which is how ids can be the keys of a mapping.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from math import isfinite, nan
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """The value as dicts, lists, texts, numbers, booleans and None."""
    if isinstance(value, Enum):
        return value.value
    # Before dataclasses: an id may be one, and is written as one text.
    if hasattr(type(value), "parse"):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    # JSON has neither NaN nor infinity.
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def from_json(kind: type[T], raw: Any) -> T:
    """What `to_json` made of a `kind`, as a `kind` again.

    Keys that the dataclass does not have are left out, and fields without a key keep their
    default, so that a file of another version can be read as far as the two agree.

    Args:
        kind: a dataclass of numbers, texts, enums, ids, tuples, mappings, dataclasses, and unions
            of one of these with None.
        raw: parsed JSON.

    Raises:
        TypeError: a field without a default has no key, or an annotation of another kind.
        ValueError: a value that the annotation does not allow, such as an unknown enum member.
    """
    found: T = _read(kind, raw)
    return found


def _read(kind: Any, raw: Any) -> Any:
    # `tuple[X, ...]` has the origin `tuple` and the parts (X, ...).
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if raw is None else _read(_the_other(parts), raw)
    if origin is tuple:
        return tuple(_read(parts[0], item) for item in raw)
    if origin is not None and issubclass(origin, Mapping):
        return {_read(parts[0], key): _read(parts[1], item) for key, item in raw.items()}
    if origin is not None and issubclass(origin, Sequence):
        return [_read(parts[0], item) for item in raw]
    return _read_plain(kind, raw)


def _read_plain(kind: Any, raw: Any) -> Any:
    """Annotations without parts: ids, records, numbers, texts, enums."""
    if hasattr(kind, "parse"):
        return kind.parse(raw)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        known = [f.name for f in dataclasses.fields(kind) if f.name in raw]
        make: Any = kind
        return make(**{name: _read(hints[name], raw[name]) for name in known})
    # The only null that is no None: a number that was undefined.
    if kind is float and raw is None:
        return nan
    return kind(raw)


def _the_other(parts: tuple[Any, ...]) -> Any:
    """The one member of a union that is not None."""
    (kind,) = (part for part in parts if part is not type(None))
    return kind
