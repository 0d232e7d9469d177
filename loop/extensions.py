"""Parts of the loop that a recipe names and that are not built in.

Rejection filters, metrics and guarded quantities. Tasks and graders are found by
`ouroloop.evals.registry`; engines, objectives and trackers by their own registries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ouroloop.evals import plugins
from ouroloop.evals.errors import DataError
from ouroloop.loop import extras
from ouroloop.loop.config import Extension, Recipe
from ouroloop.loop.engines import ray_cluster
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives import launcher
from ouroloop.loop.trackers.registry import TRACKER
from ouroloop.monitors.decision.retained import retained

if TYPE_CHECKING:  # the stages import this module
    from ouroloop.loop.stages.filters import Filter
    from ouroloop.monitors.base import Monitor
    from ouroloop.monitors.decision.guarded import GuardedQuantity

Part = TypeVar("Part")


FILTER: plugins.Kind[Filter] = plugins.Kind(
    "rejection filter", "filters.extra", "ouroloop.filters", needs=("name", "judge")
)
METRIC: plugins.Kind[Monitor] = plugins.Kind(
    "metric", "monitors.metrics", "ouroloop.metrics", needs=("name", "measure")
)
GUARDED: plugins.Kind[GuardedQuantity] = plugins.Kind(
    "guarded quantity",
    "monitors.guarded",
    "ouroloop.guarded",
    built_in={"retained": retained},
    needs=("id", "blocks", "tolerance"),
)


def build_all(kind: plugins.Kind[Part], named: Sequence[Extension]) -> list[Part]:
    """The parts that a recipe names, in its order.

    Raises:
        RecipeError: one cannot be found, or cannot be made with its options.
    """
    try:
        return [plugins.build(kind, one.use, one.options) for one in named]
    except (DataError, ValueError) as error:
        raise RecipeError(str(error)) from error


def check_all(recipe: Recipe) -> None:
    """Make every part that the recipe names once, so that a wrong name stops nothing half-made.

    The launcher's config is looked up.

    Raises:
        RecipeError: see `build_all`; also where no Ray cluster answers, and where weights are
            loaded in parts that a remedy needs whole.
        MissingExtraError: a part needs packages that are not installed.
    """
    engine_maker(recipe.engine.kind)
    if recipe.engine.kind == "ray":
        extras.require("ray", "engine.kind: ray")
        ray_cluster.refuse_silent(recipe.ray.address)
    build_all(FILTER, recipe.filters.extra)
    build_all(METRIC, recipe.monitors.metrics)
    build_all(GUARDED, recipe.monitors.guarded)
    build_all(TRACKER, recipe.tracking.trackers)
    if recipe.accelerate_config is not None:
        launcher.arguments(recipe.accelerate_config)
        blends = recipe.monitors.guard and recipe.interventions.blend
        if blends and launcher.loads_in_parts(recipe.accelerate_config):
            raise RecipeError(
                f"accelerate_config: {recipe.accelerate_config}: with zero3_init_flag: true no"
                " process holds a whole weight, and the guard's last remedy interpolates whole"
                " ones. Set `interventions: {blend: 0}`, or zero3_init_flag: false."
            )
