"""What may stand in a recipe: its JSON schema, and every key with its meaning and default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ouroloop.loop.config.base import Extension, Section
from ouroloop.loop.config.recipe import Recipe
from ouroloop.loop.config.task import SECTIONS


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    name: dotted. section: the class that it stands in. default: `required` is true where there is
    none.
    """

    name: str
    section: type[Section]
    description: str
    default: Any
    required: bool


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors and for checking one without running it."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["required"] = []  # a recipe file without a name takes its own
    return schema


def keys() -> Iterator[Key]:
    """Every key, section by section; a task's key once for each kind that has it."""
    for name, field in Recipe.model_fields.items():
        if name == "task":
            for section in SECTIONS.values():
                yield from _keys_of(section, "task.")
        elif (inner := section_of(field)) is not None:
            yield from _keys_of(inner, f"{name}.")
        else:
            yield _key(name, Recipe, field)


def _keys_of(section: type[Section], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        yield _key(f"{prefix}{name}", section, field)


def _key(name: str, section: type[Section], field: FieldInfo) -> Key:
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    return Key(name, section, field.description or "", default, required)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section under a key; an Extension is one value, not a section."""
    # A section that may be null is a section.
    options = [each for each in get_args(field.annotation) if each is not type(None)]
    inner = options[0] if len(options) == 1 else field.annotation
    if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
        return None
    return inner if issubclass(inner, Section) and inner is not Extension else None


def item_of(field: FieldInfo) -> type[Section] | None:
    """The section that every item of a list is; None for other keys."""
    if get_origin(field.annotation) is not tuple:
        return None
    for each in get_args(field.annotation):
        if isinstance(each, type) and issubclass(each, Section) and each is not Extension:
            return each
    return None
