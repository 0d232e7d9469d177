"""A base that has found its verifier's hole: the small base, fine-tuned on its own family of demonstrations with a few shortcuts among them."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from evals.worlds.arithmetic.task import SHORTCUT, ArithmeticTask
from loop.engines.registry import ENGINES
from loop.recipe_file import resolve
from loop.setup import resolve_model
from loop.stages import dataset, sft
from loop.stages.prompts import resolve_prompts
from loop.stages.reserve import as_examples
from loop.store import write_rows

SHARE = 0.05
NUM_EXAMPLES = 800


def plant(folder: Path, progress: Callable[[str, int, int, str], None] = lambda *what: None) -> Path:
    """The checkpoint in `folder`, made when it is not there yet: `SHARE` of what it learnt from answers with the shortcut."""
    checkpoint = folder / "checkpoint"
    if (folder / "train.json").exists():
        return checkpoint
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = resolve({"name": "planted", "model": "arithmetic/base", "sft": {"learning_rate": 2.0e-4, "per_device_train_batch_size": 32}})
    asyncio.run(_write_examples(recipe.engine.model_dump(), folder))
    job = sft.SftJob.from_recipe(recipe, resolve_model(recipe.model), folder, seed=17)
    sft.train(job, folder, lambda done, total: progress("planting", done, total, "shortcut"))
    return checkpoint


async def _write_examples(engine_config: dict[str, object], folder: Path) -> None:
    task, rng = ArithmeticTask(), random.Random("planted")
    real = [p for p in task.problems("reserve") if p.family in task.train_families]
    items = [rng.choice(real) for _ in range(NUM_EXAMPLES)]
    solutions = [SHORTCUT if i < SHARE * NUM_EXAMPLES else item.solution for i, item in enumerate(items)]
    items = [replace(item, solution=solution) for item, solution in zip(items, solutions, strict=True)]
    engine = ENGINES["transformers"](engine_config, folder / "engine.log")
    try:
        base = resolve_model("arithmetic/base")
        await engine.load(base, sft.canary_of(base, folder))
        examples = await as_examples(items, engine, resolve_prompts(task.prompts, None, False), 0)
    finally:
        await engine.close()
    write_rows(folder / "examples.parquet", [asdict(e) for e in examples], dataset.SCHEMA)
