"""Of a run that has ended: its setting.

And the model of any of its rounds served once more, for what is sampled beyond the loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives import training
from ouroloop.loop.recipes import automatic
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import Setting, prepare
from ouroloop.loop.views.reader import RunData


def setting_of(path: Path) -> Setting:
    """What the run in this folder was set up with."""
    return prepare(resolve(read_json(path / "recipe.json")))


def file_of(path: Path, name: str, number: int) -> Path:
    """Where what was sampled of a round beyond the loop lies in the run's folder."""
    return path / f"{name}-{number:03d}.json"


def read(path: Path, name: str, number: int) -> list[dict[str, Any]]:
    """What was sampled of a round beyond the loop; nothing where nobody did."""
    found = file_of(path, name, number)
    return list(read_json(found)) if found.exists() else []


async def serve(engine: Engine, run: RunData, number: int) -> None:
    """Load the checkpoint of a round, and prove it by its weight-sync check.

    Round 0's checkpoint is that of the warm start, or the recipe's model.
    """
    found = run.checkpoint(number)
    assert found is not None
    # Round 0's may be the name of a built-in model.
    checkpoint = resolve_model(str(found))
    recipe = resolve(dict(run.recipe))
    base = check_checkpoint(resolve_model(recipe.model))
    dtype = automatic.choose(recipe, base).recipe.engine.dtype
    await engine.load(checkpoint, training.weight_sync_of(checkpoint, run.path, dtype))
