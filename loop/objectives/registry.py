"""Every built-in objective, and how the recipe's one is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ouroloop.evals import plugins
from ouroloop.evals.errors import DataError
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.base import Objective
from ouroloop.loop.objectives.sft import Sft

OBJECTIVES: dict[str, Callable[..., Objective]] = {"sft": Sft}
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
