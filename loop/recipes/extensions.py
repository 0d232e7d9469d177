"""Parts of the loop that a recipe names and that are not built in.

Rejection filters, a judge's scorers, metrics and guarded quantities. Tasks and graders are found by
`ouroloop.evals.registry`; engines, objectives and trackers by their own registries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
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
from ouroloop.monitors.decision.declaration import GuardedQuantity
from ouroloop.monitors.decision.retained import retained

if TYPE_CHECKING:  # the stages import this module
    from ouroloop.evals.tasks import Scorer
    from ouroloop.loop.stages.filters import Filter
    from ouroloop.monitors.base import Monitor

Part = TypeVar("Part")


FILTER: plugins.Kind[Filter] = plugins.Kind(
    "rejection filter", "filters.extra", "ouroloop.filters", needs=("name", "judge")
)
SCORER: plugins.Kind[Scorer] = plugins.Kind(
    "scorer", "judge.scorers", "ouroloop.scorers", needs=("score",)
)
METRIC: plugins.Kind[Monitor] = plugins.Kind(
    "metric", "monitors.metrics", "ouroloop.metrics", needs=("name", "measure")
)
GUARDED: plugins.Kind[GuardedQuantity] = plugins.Kind(
    "guarded quantity",
    "monitors.guarded",
    "ouroloop.guarded",
    built_in={"retained": retained},
    needs=(*(field.name for field in fields(GuardedQuantity)), "called", "estimand"),
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
        RecipeError: see `build_all`; also where no Ray cluster answers, and where the launcher
            cannot train what is asked.
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
    _check_launcher(recipe)


def _check_launcher(recipe: Recipe) -> None:
    """Refuse a config of accelerate that cannot be read, or cannot train what the recipe asks.

    Raises:
        RecipeError: says why.
    """
    config = recipe.accelerate_config
    if config is None:
        return
    launcher.arguments(config)
    blends = recipe.monitors.guard and recipe.interventions.blend
    if blends and launcher.loads_in_parts(config):
        raise RecipeError(
            f"accelerate_config: {config}: with zero3_init_flag: true no process holds a whole"
            " weight, and the guard's last remedy interpolates whole ones. Set `interventions:"
            " {blend: 0}`, or zero3_init_flag: false."
        )
    objectives = {recipe.at(number).objective.use for number in recipe.first_rounds}
    # TRL 1.16 (trl/trainer/dpo_trainer.py) asks its reference before the weights are handed out:
    # until then every process but the first holds zeros, and a model with adapters is no GPU's.
    if "dpo" in objectives and launcher.is_fsdp(config):
        raise RecipeError(
            f"accelerate_config: {config}: under FSDP TRL computes the reference of objective dpo"
            " from weights that only the first process has. Use deepspeed_zero3, one_gpu, or"
            " `launcher: python`."
        )
