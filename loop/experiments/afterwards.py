"""Of a run that has ended: its setting.

And the model of any of its rounds served once more, for what is sampled beyond the loop.
"""

from __future__ import annotations

from pathlib import Path

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.objectives import training
from ouroloop.loop.recipe_file import resolve
from ouroloop.loop.setup import Setting, prepare, resolve_model
from ouroloop.loop.store import read_json
from ouroloop.loop.views.reader import RunData


def setting_of(path: Path) -> Setting:
    """What the run in this folder was set up with."""
    return prepare(resolve(read_json(path / "recipe.json")))


async def serve(engine: Engine, run: RunData, number: int) -> None:
    """Load the checkpoint of a round, and prove it by its weight-sync check.

    Round 0's checkpoint is that of the warm start, or the recipe's model.
    """
    found = run.checkpoint(number)
    assert found is not None
    # Round 0's may be the name of a built-in model.
    checkpoint = resolve_model(str(found))
    await engine.load(
        checkpoint, training.weight_sync_of(checkpoint, run.path, run.recipe["engine"]["dtype"])
    )
