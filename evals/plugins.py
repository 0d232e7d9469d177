"""Parts that are named in a recipe: the built-in ones by name, everybody else's by `module:Name`.

One `Kind` per sort of part (task, grader, rejection filter, ...) holds its table of built-in ones.
A name is looked up in that table, then among the installed entry points of the kind's group
(`ouroloop.tasks`, `ouroloop.graders`, ...); a name with a colon is imported: `module:Name`, or
`path/to/file.py:Name` for a file that is not installed. What is found is a class, or a function
that returns the part; it is called with the recipe's options.

Importing somebody's module runs it. A recipe is code in this respect, as a Makefile is.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from ouroloop.evals.errors import DataError

Part = TypeVar("Part")


@dataclass(frozen=True)
class Kind(Generic[Part]):
    """One sort of part.

    noun: what one is called. key: where a recipe names it, for error messages. group: its
    entry-point group. built_in: name -> what makes one. needs: attributes that every one has.
    """

    noun: str
    key: str
    group: str
    built_in: Mapping[str, Callable[..., Part]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def build(kind: Kind[Part], name: str, options: Mapping[str, Any] | None = None) -> Part:
    """The part of this name, made with the options.

    Raises:
        DataError: there is none, it takes no such options, or it lacks what the kind needs.
    """
    maker = find(kind, name)
    given = dict(options or {})
    check_options(kind, name, maker, given)
    try:
        part = maker(**given)
    except (Exception, SystemExit) as error:
        # Of a built-in part it is a bug of ours, or a sentence of its own.
        if name in kind.built_in or isinstance(error, DataError):
            raise
        raise DataError(
            f"{kind.key}: {name} cannot be made: {_said(error)}. Repair it, or its options."
        ) from error
    check_needs(kind, name, part)
    return part


def check_needs(kind: Kind[Any], name: str, part: object) -> None:
    """Refuse what is no part of this kind.

    Raises:
        DataError: it lacks an attribute that the kind needs.
    """
    if missing := [need for need in kind.needs if not hasattr(part, need)]:
        made = part.__name__ if isinstance(part, type) else type(part).__name__
        raise DataError(
            f"{kind.key}: {name} gave a {made}, which has no {missing[0]!r};"
            f" a {kind.noun} needs {', '.join(kind.needs)}. Add what is missing."
        )


def find(kind: Kind[Part], name: str) -> Callable[..., Part]:
    """What makes the part of this name.

    Raises:
        DataError: no such name, module or attribute.
    """
    if name in kind.built_in:
        return kind.built_in[name]
    if ":" in name:
        found: Callable[..., Part] = _imported(kind, name)
    else:
        found = _installed(kind, name)
    if not callable(found):
        raise DataError(
            f"{kind.key}: {name} is a {type(found).__name__}; expected a class, or a function that"
            f" returns a {kind.noun}."
        )
    return found


def names(kind: Kind[Any]) -> list[str]:
    """Every name that needs no module: the built-in ones and the installed ones."""
    return sorted({*kind.built_in, *installed(kind.group)})


def installed(group: str) -> list[str]:
    """The names that installed packages offer in an entry-point group."""
    return sorted(point.name for point in entry_points(group=group))


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    if not known:
        return "There are none."
    return f"There are {', '.join(sorted(known))}."


def _installed(kind: Kind[Any], name: str) -> Any:
    for point in entry_points(group=kind.group, name=name):
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{kind.key}: the installed {kind.noun} {name!r} ({point.value}) cannot be"
                f" imported: {type(error).__name__}: {error}. Repair or remove its package."
            ) from error
    raise DataError(
        f"{kind.key}: no {kind.noun} is called {name!r}. {nearest(name, names(kind))} One of your"
        f" own is named module:Name, or path/to/file.py:Name."
    )


def _imported(kind: Kind[Any], name: str) -> Any:
    where, _, attribute = name.rpartition(":")
    is_file = where.endswith(".py")
    if is_file and not Path(where).exists():
        raise DataError(
            f"{kind.key}: {name}: there is no file {where}. A relative path begins at the recipe's"
            " folder."
        )
    try:
        module = _from_file(Path(where)) if is_file else importlib.import_module(where)
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{kind.key}: {name}: {where} cannot be imported: {type(error).__name__}: {error}."
            " Install it, put its folder on PYTHONPATH, or name the file: path/to/file.py:Name."
        ) from error
    if not hasattr(module, attribute):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise DataError(
            f"{kind.key}: {name}: {where} has no {attribute!r}. {nearest(attribute, public)}"
        )
    return getattr(module, attribute)


def _said(error: BaseException) -> str:
    """What an error of somebody's own code says, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _from_file(path: Path) -> Any:
    """The module that a file holds, imported once a process."""
    path = path.resolve(strict=True)
    # The digest distinguishes two files of one name. The module must be in sys.modules, because
    # dataclasses look it up there.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"ouroloop_plugin_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # the suffix .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def check_options(
    kind: Kind[Any], name: str, maker: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Refuse options that the maker does not take, before it runs.

    Raises:
        DataError: one has another name, or one that is needed is missing.
    """
    try:
        signature = inspect.signature(maker)
    except (TypeError, ValueError):  # some callables in C have none
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        known = list(signature.parameters)
        wrong = [option for option in options if option not in known]
        hint = nearest(wrong[0], known) if wrong else f"It takes {', '.join(known)}."
        raise DataError(
            f"{kind.key}: {kind.noun} {name!r} cannot be made from options {sorted(options)}:"
            f" {error}. {hint}"
        ) from None
