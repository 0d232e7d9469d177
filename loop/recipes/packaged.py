"""Recipes that come with Ouroloop, found by name: `ouroloop run demo`."""

from __future__ import annotations

from pathlib import Path

import ouroloop
from ouroloop.loop.errors import RecipeError

# In a checkout a link to runs/recipes/, in a wheel a folder of the package.
RECIPES = Path(ouroloop.__file__).resolve().parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with Ouroloop, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(given: Path) -> Path:
    """The file that a recipe's path or built-in name leads to.

    A path of the checkout such as runs/recipes/demo.yaml also finds the recipe of that name when
    only a wheel is installed, so that every command in the documentation works there too.

    Raises:
        RecipeError: no such file, and no built-in recipe of that name.
    """
    # First: a person's own demo.yaml is not hidden by ours.
    if given.exists():
        return given
    is_name = given.parent == Path(".") and not given.suffix
    is_path_of_ours = given.suffix == ".yaml" and given.parts[:-1] in (
        ("runs", "recipes"),
        ("recipes",),
    )
    if (is_name or is_path_of_ours) and given.stem in recipe_names():
        return RECIPES / f"{given.stem}.yaml"
    raise RecipeError(
        f"{given}: no such recipe. Expected a YAML file, or the name of a recipe that comes with"
        f" Ouroloop: {', '.join(recipe_names())}."
    )
