"""Small models that a study starts from.

A checkpoint fine-tuned on texts that programs wrote, made once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.config import EngineConfig
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.folder.tables import write_table
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.recipes import automatic
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Prompt
from ouroloop.loop.round import Round
from ouroloop.loop.rows import Example

# Problem id, prompt, completion.
Lesson = tuple[str, Prompt, str]


def fine_tuned(
    folder: Path, model: str, settings: Mapping[str, Any], lessons: Sequence[Lesson], seed: int
) -> Path:
    """`folder`/checkpoint: `model` trained on the lessons under SFTConfig's `settings`.

    Made when it is not there yet.

    Raises:
        CheckpointError: the model cannot be used.
        TrainingError: the training failed; called again, it starts again.
    """
    # train.json is written last: without it the folder is what a crash left.
    if not (folder / "train.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = resolve_model(model)
        examples = asyncio.run(_tokenised(start, lessons, folder))
        write_table(folder / Round.examples.file, examples, Example)
        # All weights: what a study starts from is a whole model.
        keys = {"name": folder.name, "model": model, "sft": dict(settings), "peft": None}
        recipe = automatic.choose(resolve(keys), check_checkpoint(start)).recipe
        training.train(TrainingJob.from_recipe(recipe, start, folder, seed), folder)
    return folder / "checkpoint"


async def _tokenised(start: Path, lessons: Sequence[Lesson], folder: Path) -> list[Example]:
    """The lessons in the model's own token ids."""
    config = EngineConfig(kind="transformers", dtype="float32")
    engine = engine_maker(config.kind)(config.model_dump(), folder / "engine.log")
    try:
        await engine.load(start, training.weight_sync_of(start, folder))
        ids = await engine.encode([(prompt, text) for _, prompt, text in lessons])
    finally:
        await engine.close()
    return [
        Example(problem, tuple(asked), tuple(answer), text, "gold", 0)
        for (problem, _, text), (asked, answer) in zip(lessons, ids, strict=True)
    ]
