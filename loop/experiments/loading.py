"""Find and load experiments: folders or files, written in Python or YAML."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ouroloop.loop.errors import UserError
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study, merge
from ouroloop.loop.recipes.plain_yaml import read_yaml
from ouroloop.loop.recipes.recipe_file import located

# Where this repository keeps its experiments, one folder each.
HOME = Path("runs/experiments")

# What makes a folder an experiment.
FILES = ("study.py", "study.yaml")


class StudyFile(BaseModel):
    """A study as a YAML file.

    Attributes:
        name: of the study and of the folder of its runs.
        recipe: a recipe file that all arms share; relative paths count from the study's file.
        base: recipe keys that all arms share, over those of `recipe`.
        arms: arm -> the recipe keys in which it differs.
        seeds: of the full run.
        quick: keys that `--quick` changes in every arm.
        measure: `module:function`, run folder -> rows to keep; without one, a row per round.
        title, claim: words for the page.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    recipe: Path | None = None
    base: dict[str, Any] = {}
    arms: dict[str, dict[str, Any] | None]
    seeds: list[int] = [0]
    quick: dict[str, Any] = {}
    measure: str | None = None
    title: str = ""
    claim: str = ""


def load(path: Path) -> Experiment:
    """The experiment of a folder (`study.py` or `study.yaml`), a Python file or a YAML file.

    A Python file defines `EXPERIMENT` (an `Experiment`) or `STUDY` (a `Study`).

    Raises:
        UserError: there is none, or it is not what it should be.
    """
    found = _file_of(path)
    if found.suffix in (".yaml", ".yml"):
        return _from_yaml(found)
    module = _import(found)
    for value in (getattr(module, name, None) for name in ("EXPERIMENT", "STUDY")):
        if isinstance(value, Experiment):
            return value
        if isinstance(value, Study):
            return Experiment(value)
    raise UserError(
        f"{found}: defines no study; expected `EXPERIMENT = Experiment(...)` or `STUDY ="
        " Study(...)`. CONTRIBUTING.md says how one is written."
    )


def available(home: Path = HOME) -> list[Path]:
    """The folders of experiments, by name."""
    return sorted(p for p in home.glob("*") if any((p / name).is_file() for name in FILES))


def _file_of(path: Path) -> Path:
    if path.is_dir():
        inside = [path / name for name in FILES if (path / name).is_file()]
        if inside:
            return inside[0]
    elif path.is_file():
        return path
    known = ", ".join(str(p) for p in available()) or "none here"
    raise UserError(
        f"{path}: no study; expected a folder that holds {' or '.join(FILES)}, or such a file."
        f" In {HOME} there are: {known}."
    )


def _import(path: Path) -> ModuleType:
    """Import a file as part of its folder, so that `from .measure import row` works in it.

    The folder's own folder is a package too: an experiment may use the arms of another one
    (`from ..other.arms import BASE`). Both packages get names of their own, so that two folders
    called alike do not meet.
    """
    path = path.resolve()
    folder = path.parent
    above = "ouroloop_studies_" + hashlib.sha256(str(folder.parent).encode()).hexdigest()[:12]
    package = f"{above}.{folder.name.replace('.', '_')}"
    _package(above, folder.parent)
    _package(package, folder)
    try:
        return importlib.import_module(f"{package}.{path.stem}")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{path}: cannot be imported: {type(error).__name__}: {error}. Repair it."
        ) from error


def _package(name: str, folder: Path) -> None:
    # A package needs no file: a name and the folder in which its modules are looked for.
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module


def _from_yaml(path: Path) -> Experiment:
    raw = _mapping(path)
    raw.setdefault("name", path.parent.name if path.name in FILES else path.stem)
    try:
        given = StudyFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected the keys"
            f" {', '.join(StudyFile.model_fields)}."
        ) from None
    base: dict[str, Any] = {"tracking": {"mlflow": False}}  # recorded together at the end
    if given.recipe is not None:
        recipe = path.parent / given.recipe
        base = merge(located(_mapping(recipe), recipe.parent), base)
    # Base over recipe, arms over base: the nearest to the arm counts.
    study = Study(
        given.name,
        merge(base, located(given.base, path.parent)),
        {arm: located(keys or {}, path.parent) for arm, keys in given.arms.items()},
        measure=_function(given.measure, path) if given.measure else rounds.table,
        quick=given.quick,
    )
    return Experiment(study, title=given.title, claim=given.claim, seeds=tuple(given.seeds))


def _mapping(path: Path) -> dict[str, Any]:
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of keys, got {type(raw).__name__}.")
    return raw


def _function(text: str, path: Path) -> Any:
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: measure: got {text!r}; expected `module:function` that can be imported:"
            f" {error}."
        ) from None
