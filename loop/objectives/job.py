"""What the trainer is asked to do: one round's job, written to job.json.

Imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ouroloop.loop.config import Recipe, SupervisionConfig
from ouroloop.loop.recipes import secrets
from ouroloop.loop.recipes.automatic import training_type


@dataclass(frozen=True)
class Retry:
    """Why a trainer was started again, and with what: rows per device and gradient accumulation."""

    cause: Literal["memory", "silence"]
    batch: int
    accumulation: int
    next_batch: int
    next_accumulation: int

    def __str__(self) -> str:
        if self.cause == "silence":
            return "the trainer fell silent and was started again"
        return (
            f"the trainer ran out of memory with {self.batch} rows per device and"
            f" {self.accumulation} steps of accumulation, and was started again with"
            f" {self.next_batch} and {self.next_accumulation} (the same effective batch)"
        )


@dataclass(frozen=True)
class TrainingJob:
    """All that the trainer needs.

    `init` is a whole model or an adapter; `dtype` and `max_length` (tokens) are the engine's.
    `compute`: what training computes in, beside float32 master weights.

    `examples`: the table that is learnt from, examples.parquet or pairs.parquet. `settings`: those
    of the objective's trainer, from the recipe's section `sft` or `dpo`. `baseline`: round 0's
    checkpoint. `blend`: share of the weights of `blend_with`, an earlier round's checkpoint, in
    what training starts from (WiSE-FT, Wortsman et al. 2109.01903). `retries`: what was tried
    before this attempt.
    """

    init: Path
    examples: Path
    output: Path
    log_path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    peft: Mapping[str, Any] | None = None
    dtype: str = "float32"
    compute: str = "float32"
    max_length: int = 512
    seed: int = 0
    launcher: str = "python"
    accelerate_config: Path | None = None
    blend: float = 0.0
    blend_with: Path | None = None
    baseline: Path | None = None
    objective: str = "sft"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)
    retries: tuple[Retry, ...] = ()

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        init: Path,
        folder: Path,
        seed: int,
        blend: float = 0.0,
        blend_with: Path | None = None,
        baseline: Path | None = None,
        table: str = "examples.parquet",
    ) -> TrainingJob:
        """The job of one round, whose folder holds the table. recipe: as it holds in the round."""
        return cls(
            blend=blend,
            blend_with=blend_with,
            baseline=baseline,
            init=init,
            examples=folder / table,
            output=folder / "checkpoint",
            log_path=folder / "train.log",
            settings=recipe.trainer_settings,
            peft=recipe.lora,
            dtype=recipe.engine.dtype,
            compute=training_type(recipe.engine.dtype),
            max_length=recipe.engine.max_model_len,
            seed=seed,
            launcher=recipe.launcher,
            accelerate_config=recipe.accelerate_config,
            objective=recipe.objective.use,
            objective_options=recipe.objective.options,
            supervision=recipe.supervision,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, *** for secrets among the settings."""
        return secrets.masked(self._plain())

    def write(self, path: Path) -> None:
        """Write the job for a child process, which finds the secrets in its environment."""
        self.expose_secrets()
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    def expose_secrets(self) -> None:
        """Put the secrets into this process's environment, where the child finds them."""
        secrets.expose(self._plain())

    def _plain(self) -> dict[str, Any]:
        plain = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
        }
        return {**plain, "supervision": self.supervision.model_dump()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TrainingJob:
        """The job that `to_json` wrote; secrets are taken from the environment.

        Raises:
            RecipeError: one is not there.
        """
        raw = secrets.unmasked(raw)
        paths = (
            "init",
            "examples",
            "output",
            "log_path",
            "accelerate_config",
            "baseline",
            "blend_with",
        )
        values: dict[str, Any] = {
            k: Path(v) if k in paths and v is not None else v for k, v in raw.items()
        }
        # A job of an earlier version has neither.
        values["supervision"] = SupervisionConfig(**values.get("supervision", {}))
        values["retries"] = tuple(Retry(**retry) for retry in values.get("retries", ()))
        return cls(**values)


# Runs a job in the folder that holds its examples; reports (steps done, steps in all).
Trainer = Callable[[TrainingJob, Path, Callable[[int, int], None]], Any]
