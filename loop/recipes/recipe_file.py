"""Recipes on paper: YAML by hand, with overrides, to a `Recipe`.

Wrong keys are named with the nearest right one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ouroloop.evals import plugins
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.base import Extension
from ouroloop.loop.config.judge import BASELINE
from ouroloop.loop.config.schema import item_of, section_of
from ouroloop.loop.config.task import SECTIONS as TASK_SECTIONS
from ouroloop.loop.engines.remote import is_address
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.models.names import ENCODERS, is_name
from ouroloop.loop.objectives.launcher import config_names
from ouroloop.loop.recipes import secrets
from ouroloop.loop.recipes.plain_yaml import read_yaml

PATH_KEYS = (
    "task.heldout_path",
    "task.sources.heldout_path",
    "warm_start.path",
    "refine.constitution",
    "refine.shots",
    "judge.principles",
    "judge.items",
    "pairs.principles",
    "pairs.few_shots",
)
LAUNCHER_KEYS = ("accelerate_config",)
DATA_KEYS = ("task.path", "task.sources.path")
MODEL_KEYS = ("model", "teachers", "judge.model")
ENCODER_KEYS = ("monitors.clusters.encoder",)
PART_KEYS = (
    "task.kind",
    "task.grader",
    "engine.kind",
    "objective",
    "filters.extra",
    "judge.scorers.*",
    "monitors.metrics",
    "monitors.guarded",
    "tracking.trackers",
)
OPTION_KEYS = ("task.options",)
FILE_PART = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)")
# `name` or `organisation/name`.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
# How pydantic calls one of the kinds that a value may be of: it is no key.
BRANCH = re.compile(r"constrained-\w+|[\w-]+\[.*\]|int|float|str|bool")
# What pydantic says in words of its own, by the type of its error.
WORDS = {
    "path_type": "expected a path",
    "dict_type": "expected a mapping of keys",
    "tuple_type": "expected a list",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_from_float": "expected a whole number",
    "string_too_short": "expected a text that is not empty",
    "too_short": "expected at least one entry",
}
# A key whose text has a form -> the form in words.
FORMS: dict[int | str, str] = {
    "name": "expected at most 64 letters, digits and any of . _ -, of which the first is no sign",
    "url": "expected an address such as s3://bucket/folder",
}
MARKED_PATH = re.compile(r"\.{1,2}/|\$\w+/")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, apply `key.sub=value` overrides (values are YAML) and validate it.

    Relative paths in the file are relative to the file; a path beginning with `$NAME/` is expanded
    from the environment.

    Raises:
        RecipeError: the file is missing, is not YAML, has an unknown key or an impossible value.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: no such recipe. Recipes that come with Ouroloop lie in runs/recipes/."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise RecipeError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(raw, dict):
        raise RecipeError(
            f"{path}: expected a mapping of recipe keys, got {type(raw).__name__}. Start with"
            " `name: my-run`."
        )
    for text in overrides:
        _override(raw, text)
    raw.setdefault("name", path.stem)
    return resolve(raw, where=str(path), base=path.parent)


def resolve(raw: dict[str, Any], where: str = "recipe", base: Path | None = None) -> Recipe:
    """Validate a mapping of recipe keys; relative paths start at `base`.

    Raises:
        RecipeError: with one line per wrong key.
    """
    if base is not None:
        raw = located(raw, base)
    raw = secrets.unmasked(raw)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{where}: {line}" for line in _explain(error))) from None


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two resolved recipes, as `key: old -> new`."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def located(raw: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Recipe keys whose own relative paths no longer depend on the working directory: a copy.

    `$NAME/...` is expanded; `@arm`, in a study another arm's model, stays as it is.

    Raises:
        RecipeError: an environment variable is not set.
    """
    out: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    for dotted in PATH_KEYS:
        change_at(out, dotted, lambda value: _absolute(value, base))
    for dotted in DATA_KEYS:
        change_at(out, dotted, lambda value: data_path(value, base))
    for dotted in MODEL_KEYS:
        change_at(out, dotted, lambda value: _located(value, base))
    for dotted in ENCODER_KEYS:
        change_at(out, dotted, lambda value: value if value in ENCODERS else _absolute(value, base))
    for dotted in LAUNCHER_KEYS:
        change_at(out, dotted, lambda value: _launched(value, base))
    for dotted in PART_KEYS:
        change_at(out, dotted, lambda value: _named(value, base))
    for dotted in OPTION_KEYS:
        change_at(out, dotted, lambda value: _option(value, base))
    change_at(out, "stages", lambda stage: _staged(stage, base))
    return out


def change_at(node: Any, dotted: str, change: Callable[[Any], Any]) -> None:
    """Replace what stands at a dotted key, where there is something; a list item by item.

    `*` is every key.
    """
    if isinstance(node, list):
        for item in node:
            change_at(item, dotted, change)
        return
    key, _, rest = dotted.partition(".")
    if not isinstance(node, dict):
        return
    for name in node if key == "*" else (key,):
        value = node.get(name)
        if rest:
            change_at(value, rest, change)
        elif value is not None:
            node[name] = (
                [change(each) for each in value] if isinstance(value, list) else change(value)
            )


def _absolute(value: Any, base: Path) -> Any:
    """A path as the recipe writes it: $NAME expanded, then relative to the recipe's folder."""
    if not isinstance(value, str) or value.startswith("@"):
        return value
    if "\0" in value:
        raise RecipeError(f"{value!r}: no path holds the character \\0. Remove it.")
    # expandvars leaves a name that is not set as it is: it would become a folder named "$NAME".
    expanded = os.path.expandvars(value)
    if expanded.startswith("$"):
        name = expanded[1:].split("/")[0].strip("{}")
        raise RecipeError(
            f"{value}: the environment variable {name} is not set. Set it, e.g. `export"
            f" {name}=/path/to/data`."
        )
    return str((base / expanded).resolve())


def data_path(value: Any, base: Path) -> Any:
    """A file or folder of problems, or the name of a data set on the hub, which is no path."""
    is_name = isinstance(value, str) and HUB_NAME.fullmatch(value) and not Path(value).suffix
    return value if is_name and not (base / value).exists() else _absolute(value, base)


def _located(model: Any, base: Path) -> Any:
    """A model: a name or servers' addresses stay as they are, a path becomes absolute."""
    if isinstance(model, list):
        return [_located(each, base) for each in model]
    if is_address(str(model)) or model == BASELINE or is_name(str(model), base):
        return model
    return _absolute(model, base)


def _launched(value: Any, base: Path) -> Any:
    """A config of accelerate's: the name of one of ours, or a path."""
    is_own = isinstance(value, str) and value in config_names()
    return value if is_own and not (base / value).exists() else _absolute(value, base)


def _named(part: Any, base: Path) -> Any:
    """A part by its name, or as {use: name, options: ...}; `file.py:Name` holds a path."""
    if isinstance(part, dict):
        use, options = part.get("use"), part.get("options")
        return {**part, "use": _named(use, base), "options": _option(options or {}, base)}
    if isinstance(part, str) and (found := FILE_PART.fullmatch(part)):
        return f"{_absolute(found['path'], base)}:{found['name']}"
    return part


def _staged(stage: Any, base: Path) -> Any:
    """A stage, whose objective may be a part of one's own."""
    if not isinstance(stage, dict) or "objective" not in stage:
        return stage
    return {**stage, "objective": _named(stage["objective"], base)}


def _option(value: Any, base: Path) -> Any:
    """Options of somebody's own part: only what is marked as a path is one."""
    if isinstance(value, dict):
        return {key: _option(item, base) for key, item in value.items()}
    if isinstance(value, list):
        return [_option(item, base) for item in value]
    if isinstance(value, str) and MARKED_PATH.match(value):
        return _absolute(value, base)
    return value


def _override(raw: dict[str, Any], text: str) -> None:
    key, sep, value = text.partition("=")
    if not sep or not key:
        raise RecipeError(
            f"--set {text}: expected key=value, e.g. --set sampling.temperatures='[0.7, 1.0]'"
        )
    node = raw
    *parents, leaf = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {text}: {parent} is not a section")
        node = child
    try:
        node[leaf] = read_yaml(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {text}: the value is not YAML") from None


def _explain(error: ValidationError) -> Iterator[str]:
    """One line per wrong key: what is wrong with it, and what would be right."""
    seen: dict[str, list[str]] = {}
    for item in error.errors():
        dotted = ".".join(_place(item["loc"])[0])
        seen.setdefault(dotted, []).append(_expected(item))
    for item in error.errors():
        path, model = _place(item["loc"])
        dotted = ".".join(path) or "recipe"
        # A value that may be of several kinds has one error for each kind, and gets one line.
        messages = seen.pop(".".join(path), None)
        if messages is None:
            continue
        if item["type"] == "extra_forbidden":
            yield f"unknown key {dotted!r}. {plugins.nearest(path[-1], list(model.model_fields))}"
        elif item["type"] == "missing":
            meaning = model.model_fields[path[-1]].description
            yield f"{dotted} is missing: {meaning}"
        else:
            message = ", or ".join(messages).replace(" or expected ", " or ")
            shown = "" if isinstance(item["input"], dict) else f", got {item['input']!r}"
            if secrets.is_secret_key(path[-1] if path else ""):
                shown = ""
            yield f"{dotted}: {message}{shown}"


def _expected(item: ErrorDetails) -> str:
    """What an error says, in a recipe's words instead of pydantic's."""
    if item["type"] in ("model_type", "model_attributes_type"):
        is_part = item["ctx"]["class_name"] == Extension.__name__
        return "expected " + ("a name, or {use: name, options: ...}" if is_part else "a section")
    if item["type"] in WORDS:
        return WORDS[item["type"]]
    if item["type"] == "string_pattern_mismatch":
        return FORMS.get(item["loc"][-1], f"expected a text that matches {item['ctx']['pattern']}")
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be ", "expected ", 1)
    return message.replace("a valid integer", "a whole number", 1).replace("a valid ", "a ", 1)


def _place(loc: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel]]:
    """The dotted key of an error, and the section that it stands in."""
    model: type[BaseModel] = Recipe
    path: list[str] = []
    for part in loc:
        if part in TASK_SECTIONS and path == ["task"]:  # which kind of task: not a key
            model = TASK_SECTIONS[str(part)]
            continue
        if part not in model.model_fields and BRANCH.fullmatch(str(part)):
            continue
        path.append(str(part))
        field = model.model_fields.get(str(part))
        inner = (section_of(field) or item_of(field) or _part_of(field)) if field else None
        if inner is not None and part != loc[-1]:
            model = inner
    return path, model


def _part_of(field: FieldInfo) -> type[BaseModel] | None:
    """`Extension`, where the key holds one or several; None for other keys."""
    return Extension if Extension in (field.annotation, *get_args(field.annotation)) else None
