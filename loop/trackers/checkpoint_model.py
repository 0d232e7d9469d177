"""A checkpoint that MLflow names, loaded: what `mlflow.pyfunc.load_model` calls.

The model of MLflow holds a reference and no weights, so it loads where the run's folder can be
read. Text is sampled by the run's own engine code, so prompts are rendered as in the run.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.folder.integrity import refuse_damaged_checkpoint
from ouroloop.loop.folder.store import RECIPE, read_json
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes import automatic
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Prompt, Request, Sampling


def _load_pyfunc(path: str) -> CheckpointModel:
    """The hook of MLflow's; `path`: the reference that `mlflow_models` wrote."""
    return CheckpointModel(json.loads(Path(path).read_text(encoding="utf-8")))


class CheckpointModel:
    """Completes prompts with the checkpoint of a round, in plain transformers.

    Raises:
        CheckpointError: the run's folder is not there, or not on this machine.
        DamagedError: the checkpoint is not what was committed.
    """

    def __init__(self, about: Mapping[str, str]) -> None:
        run = Path(about["run"])
        if not (run / RECIPE).is_file():
            raise CheckpointError(
                f"{run}: no run here. MLflow holds a reference to the checkpoint and no weights:"
                f" load it on the machine that has {about['path']}, or copy the run there."
            )
        self.recipe: Recipe = resolve(read_json(run / RECIPE), where=str(run / RECIPE))
        self.path = resolve_model(about["path"])
        if run in self.path.parents:
            refuse_damaged_checkpoint(run, self.path)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """One completion per prompt.

        Args:
            model_input: prompts: texts or chats (lists of turns), or a table whose first column
                holds them.
            params: `temperature` (default 0: greedy), `max_tokens` (default: the recipe's),
                `seed`.
        """
        prompts = _prompts(model_input)
        asked = dict(params or {})
        sampling = Sampling(
            temperature=float(asked.get("temperature", 0.0)),
            max_tokens=int(asked.get("max_tokens", self.recipe.sampling.max_tokens)),
        )
        seed = int(asked.get("seed", 0))
        requests = [
            Request(f"predict/{i}", prompt, sampling, seed + i) for i, prompt in enumerate(prompts)
        ]
        return asyncio.run(self._complete(requests))

    async def _complete(self, requests: Sequence[Request]) -> list[str]:
        # What is `auto` in the recipe was chosen for the run's own base model.
        base = check_checkpoint(resolve_model(self.recipe.model))
        recipe = automatic.choose(self.recipe, base).recipe
        # Not vLLM: whoever tries a model by hand shall not need the GPU that the run had.
        config = {**recipe.engine_config(), "kind": "transformers"}
        # The process is new and has served no other weights, and base models bring no check.
        config["weight_sync_check"] = False
        with tempfile.TemporaryDirectory() as folder:
            engine = engine_maker("transformers")(config, Path(folder) / "engine.log")
            try:
                await engine.load(self.path)
                completions = await asyncio.gather(*map(engine.complete, requests))
            finally:
                await engine.close()
        return [completion.text for completion in completions]


def _prompts(model_input: Any) -> list[Prompt]:
    if hasattr(model_input, "iloc"):
        return list(model_input.iloc[:, 0])
    return [model_input] if isinstance(model_input, str) else list(model_input)
