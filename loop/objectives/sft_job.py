"""What the trainer is asked to do.

The job, and the names that a recipe's `sft:` and `peft:` may hold. Imports nothing heavy.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.errors import RecipeError

DEFINED_IN = {
    "sft": (
        ("trl", "trainer/sft_config.py", "SFTConfig"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("transformers", "training_args.py", "TrainingArguments"),
    ),
    "peft": (
        ("peft", "tuners/lora/config.py", "LoraConfig"),
        ("peft", "config.py", "PeftConfig"),
        ("peft", "config.py", "PeftConfigMixin"),
    ),
}
"""Section -> where its dataclass and its bases stand: (package, file, class)."""

RESERVED = {
    "output_dir": "the run directory decides where the checkpoint goes",
    "seed": "the recipe's seed decides",
    "data_seed": "the recipe's seed decides",
    "report_to": "the run directory keeps the curves, and tracking shows them",
    "dataset_kwargs": "examples come tokenised",
    "dataset_text_field": "examples come tokenised",
    "chat_template_path": "examples come tokenised",
    "packing": (
        "TRL does not pack examples that come tokenised; train_sampling_strategy: group_by_length"
        " saves the padding"
    ),
    "truncation_mode": "examples are never truncated",
    "completion_only_loss": "the prompt is masked always",
    "assistant_only_loss": "the prompt is masked always",
}


def check_settings(sft: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
    """Refuse names that SFTConfig or LoraConfig do not have, and those that Ouroloop sets itself.

    Takes a tenth of a second.

    Raises:
        RecipeError: one line per wrong name, with the nearest right one.
    """
    wrong = [f"sft.{name}: {RESERVED[name]}. Leave it out." for name in sft if name in RESERVED]
    for section, given in (("sft", sft), ("peft", peft or {})):
        known = setting_names(section)
        for name in given:
            # Without the package nothing can be trained, and `ouroloop run` says so; a recipe may
            # still be read, as `ouroloop plan` does.
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                owner = DEFINED_IN[section][0][2]
                hint = f" Did you mean {near[0]!r}?" if near else ""
                wrong.append(f"unknown key '{section}.{name}': {owner} has no such field.{hint}")
    if wrong:
        raise RecipeError("\n".join(wrong))


@cache
def setting_names(section: str) -> Set[str] | None:
    """All fields of the section's dataclass ("sft" or "peft").

    None where a package that defines them is not installed.
    """
    names: set[str] = set()
    for package, file, owner in DEFINED_IN[section]:
        found = _fields(package, file, owner)
        if found is None:
            return None
        names.update(found)
    return frozenset(names)


def _fields(package: str, file: str, owner: str) -> list[str] | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner
    )
    return [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


@dataclass(frozen=True)
class SftJob:
    """All that the trainer needs.

    `init` is a whole model or an adapter; `dtype` and `max_length` (tokens) are the engine's.

    `blend` of the weights of `blend_with` go into what training starts from (WiSE-FT, Wortsman et
    al. 2109.01903); whole models only.
    """

    init: Path
    examples: Path
    output: Path
    log_path: Path
    sft: Mapping[str, Any] = field(default_factory=dict)
    peft: Mapping[str, Any] | None = None
    dtype: str = "float32"
    max_length: int = 512
    seed: int = 0
    launcher: str = "python"
    accelerate_config: Path | None = None
    init_canary: Path | None = None
    blend: float = 0.0
    blend_with: Path | None = None

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        init: Path,
        folder: Path,
        seed: int,
        blend: float = 0.0,
        blend_with: Path | None = None,
    ) -> SftJob:
        """The job of one round, whose folder holds examples.parquet."""
        return cls(
            blend=blend,
            blend_with=blend_with,
            init=init,
            examples=folder / "examples.parquet",
            output=folder / "checkpoint",
            log_path=folder / "train.log",
            sft=recipe.sft,
            peft=recipe.peft,
            dtype=recipe.engine.dtype,
            max_length=recipe.engine.max_model_len,
            seed=seed,
            launcher=recipe.launcher,
            accelerate_config=recipe.accelerate_config,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SftJob:
        """The job that `to_json` wrote."""
        paths = (
            "init",
            "examples",
            "output",
            "log_path",
            "accelerate_config",
            "init_canary",
            "blend_with",
        )
        values: dict[str, Any] = {
            k: Path(v) if k in paths and v is not None else v for k, v in raw.items()
        }
        return cls(**values)


def settings_for(job: SftJob, *, on_gpu: bool) -> dict[str, Any]:
    """SFTConfig's arguments: defaults for this kind of machine, then the recipe's.

    Then what may not be otherwise.
    """
    defaults: dict[str, Any] = {
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "train_sampling_strategy": "group_by_length",
        "bf16": (
            on_gpu and job.dtype == "bfloat16"
        ),  # TRL's own default is bfloat16 on every GPU: another training than on a CPU
    }
    if not on_gpu:
        defaults |= {
            "use_cpu": True,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
        }
    fixed = {
        "output_dir": str(job.output.with_name("trainer")),
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "report_to": "none",
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    given = {key: value for key, value in job.sft.items() if key != "model_init_kwargs"}
    return defaults | given | fixed
