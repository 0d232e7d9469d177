"""Recipes on paper: YAML by hand, with overrides, to a `Recipe`.

Wrong keys are named with the nearest right one.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ouroloop.loop.config import Recipe
from ouroloop.loop.engines.remote import is_address
from ouroloop.loop.errors import RecipeError

PATH_KEYS = ("task.path", "task.heldout_path", "refine.constitution", "accelerate_config")
BUILT_IN_MODELS = ("arithmetic/base", "arithmetic/teacher", "arithmetic/assistant")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, apply `key.sub=value` overrides (values are YAML) and validate it.

    Relative paths in the file are relative to the file; a path beginning with `$NAME/` is expanded
    from the environment.

    Raises:
        RecipeError: the file is missing, is not YAML, has an unknown key or an impossible value.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    """Validate a mapping of recipe keys; `base` anchors relative paths.

    Raises:
        RecipeError: with one line per wrong key.
    """
    if base is not None:
        raw = _anchored(raw, base)
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


def _anchored(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the recipe's own relative paths independent of the working directory."""

    def absolute(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        expanded = os.path.expandvars(value)
        if expanded.startswith("$"):
            name = expanded[1:].split("/")[0]
            raise RecipeError(
                f"{value}: the environment variable {name} is not set. Set it, e.g. `export"
                f" {name}=/path/to/data`."
            )
        return str((base / expanded).resolve())

    def located(model: Any) -> Any:
        return model if model in BUILT_IN_MODELS or is_address(str(model)) else absolute(model)

    out = json.loads(json.dumps(raw, default=str))
    for dotted in PATH_KEYS:
        *parents, leaf = dotted.split(".")
        node: Any = out
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(leaf) is not None:
            node[leaf] = absolute(node[leaf])
    for key in ("model", "teachers"):
        value = out.get(key)
        if isinstance(value, str):
            out[key] = located(value)
        elif isinstance(value, list):
            out[key] = [located(v) for v in value]
    return dict(out)


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
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {text}: the value is not YAML") from None


def _explain(error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        dotted = ".".join(str(part) for part in item["loc"]) or "recipe"
        if item["type"] == "extra_forbidden":
            known = _keys_beside(item["loc"])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
            hint = (
                f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
            )
            yield f"unknown key {dotted!r}. {hint}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = (
                ""
                if item["type"] == "missing" or isinstance(item["input"], dict)
                else f", got {item['input']!r}"
            )
            yield f"{dotted}: {message}{shown}"


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in loc[:-1]:
        annotation = (
            model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        )
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)
