"""What the commands share: how runs and recipes are named, and how results are printed."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ouroloop.loop.errors import RecipeError, RunStateError, UserError
from ouroloop.loop.views.printable import printable

if TYPE_CHECKING:
    from ouroloop.loop.config import Recipe

Command = Callable[[argparse.Namespace], int]
"""What carries a command out; returns the exit code."""
RECIPE = "YAML file, or the name of a recipe that comes with Ouroloop, e.g. demo"


class Add(Protocol):
    """Adds a command to the command line."""

    def __call__(self, name: str, text: str, command: Command) -> argparse.ArgumentParser:
        """Returns the command's parser. text: what it does."""
        ...


def root_of(options: argparse.Namespace) -> Path:
    """The folder of all runs."""
    from ouroloop.loop.folder.store import default_root

    return Path(options.runs).resolve() if options.runs else default_root()


def run_path(options: argparse.Namespace, name: str) -> Path:
    """A run by name (in the runs folder) or by its folder."""
    # The folder of runs first: a folder `demo` in the working directory must not hide the run.
    for path in (root_of(options) / name, Path(name)):
        # RUN.json as well: of a run whose recipe was lost the other files can still be looked at.
        if (path / "recipe.json").exists() or (path / "RUN.json").exists():
            return path.resolve()
    raise RunStateError(
        f"{name}: no such run in {root_of(options)}, and no run folder of that path. `ouroloop run"
        " RECIPE` starts one."
    )


def recipe_of(given: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its file or by its built-in name."""
    from ouroloop.loop.recipes.packaged import find_recipe
    from ouroloop.loop.recipes.recipe_file import load_recipe

    return load_recipe(find_recipe(given), overrides)


@contextmanager
def naming(given: Path) -> Iterator[None]:
    """Let errors of a recipe's values name its file, as those of its keys do."""
    from ouroloop.loop.recipes.packaged import find_recipe

    try:
        yield
    except RecipeError as error:
        file = str(find_recipe(given))
        if not str(error).startswith(file):
            error.args = (f"{file}: {error}",)
        raise


def refuse_unused(command: str, given: Mapping[str, object], owner: str) -> None:
    """Refuse options that only another one uses: left alone, they would seem to have been used.

    Args:
        command: for the message.
        given: option -> its value; None: it is not given.
        owner: the option that they need, and that is not given.

    Raises:
        UserError: one of them is given.
    """
    for option, value in given.items():
        if value is not None:
            raise UserError(
                f"{command}: got {option} without {owner}, which alone uses it; expected both. Give"
                f" {owner}, too, or leave {option} out."
            )


def print_result(as_json: bool, to_json: Callable[[], Any], to_text: Callable[[], str]) -> None:
    """Print one of the two forms of a result; only that one is made."""
    if as_json:
        # NaN is no JSON, though Python writes it: a view has to say null where it knows no value.
        print(json.dumps(to_json(), indent=1, allow_nan=False))
    else:
        print(printable(to_text()))


def add_overrides(command: argparse.ArgumentParser, example: str) -> None:
    """`--set KEY=VALUE`, as often as one likes."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"change a key, e.g. {example}",
    )


def round_number(text: str) -> int:
    """For `type=`: the number, or an error that says what is expected."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a round's number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    """For `type=`: the number, or an error that says what is expected."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number of at least 1")
    return int(text)


def finite(text: str) -> float:
    """For `type=`: the number, or an error that says what is expected."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # Nothing is at least NaN: every comparison with it would silently be false.
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a finite number")
    return number


def not_negative(text: str) -> float:
    """For `type=`: a finite number of at least 0, or an error that says what is expected."""
    number = finite(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number of at least 0")
    return number


def rate(text: str) -> float:
    """For `type=`: a finite number above 0, or an error that says what is expected."""
    number = finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number above 0")
    return number
