"""Every built-in objective, and how the recipe's one is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ouroloop.evals import plugins
from ouroloop.evals.errors import DataError
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.base import LearnsFrom, Objective
from ouroloop.loop.objectives.dpo import Dpo
from ouroloop.loop.objectives.sft import Sft

OBJECTIVES: dict[str, Callable[..., Objective]] = {"sft": Sft, "dpo": Dpo}
KIND = plugins.Kind(
    "objective", "objective", "ouroloop.objectives", OBJECTIVES, ("check", "prepare")
)


def build_objective(name: str, options: Mapping[str, Any]) -> Objective:
    """The objective that a recipe names.

    Raises:
        RecipeError: there is none of this name, or it takes no such options.
    """
    try:
        return plugins.build(KIND, name, options)
    except DataError as error:
        raise RecipeError(str(error)) from error


def learns_from(name: str, options: Mapping[str, Any]) -> LearnsFrom:
    """Which table of a round the objective that a recipe names learns from.

    Raises:
        RecipeError: see `build_objective`, or it names no such table.
    """
    named = getattr(build_objective(name, options), "learns_from", LearnsFrom.EXAMPLES)
    try:
        return LearnsFrom(named)
    except ValueError:
        known = ", ".join(LearnsFrom)
        raise RecipeError(
            f"objective {name}: learns_from: got {named!r}; expected one of {known}."
        ) from None
