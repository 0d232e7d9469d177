"""How `accelerate launch` is called: which config, and how many processes.

The configs that come with Ouroloop are known by name. Imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from ouroloop.loop.devices import gpus
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.recipes.packaged import RECIPES

MODULE = "accelerate.commands.launch"
CONFIGS = RECIPES / "accelerate"


def config_names() -> list[str]:
    """Names of the configs that come with Ouroloop, sorted."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(given: Path) -> Path:
    """The file that a recipe's `accelerate_config` names.

    Raises:
        RecipeError: there is neither such a file nor such a name.
    """
    named = CONFIGS / f"{given.name}.yaml"
    if given.name == str(given) and named.exists():
        return named
    if given.exists():
        return given
    raise RecipeError(
        f"accelerate_config: {given}: no such file. Expected a config of accelerate, or the name of"
        f" one that comes with Ouroloop: {', '.join(config_names())}."
    )


def arguments(config: Path | None) -> list[str]:
    """The options of `accelerate launch` before the module.

    Raises:
        RecipeError: the config cannot be found or read.
    """
    if config is None:
        return []
    path = find_config(config)
    given = _read(path)
    options = ["--config_file", str(path)]
    # A config that names a number would fit one machine; accelerate itself refuses one without.
    if "num_processes" not in given:
        num = max(1, num_gpus()) * int(given.get("num_machines", 1))
        options += ["--num_processes", str(num)]
    return options


def loads_in_parts(config: Path) -> bool:
    """Whether no process ever holds a whole weight: DeepSpeed ZeRO-3 from the loading on.

    Raises:
        RecipeError: the config cannot be found or read.
    """
    deepspeed = _read(find_config(config)).get("deepspeed_config") or {}
    return str(deepspeed.get("zero3_init_flag")).lower() == "true"


def is_fsdp(config: Path) -> bool:
    """Whether weights are sharded by FSDP.

    Raises:
        RecipeError: the config cannot be found or read.
    """
    return str(_read(find_config(config)).get("distributed_type")).upper() == "FSDP"


def shards(config: Path | None) -> bool | None:
    """Whether weights, gradients and the optimiser's states are divided over all processes.

    None: not known, for accelerate's own default config or a file of DeepSpeed's decides.

    Raises:
        RecipeError: the config cannot be found or read.
    """
    if config is None:
        return None
    given = _read(find_config(config))
    if str(given.get("distributed_type")).upper() != "DEEPSPEED":
        return is_fsdp(config)
    stage = (given.get("deepspeed_config") or {}).get("zero_stage")
    return None if stage is None else int(stage) == 3


def num_gpus() -> int:
    """GPUs that a child process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(gpus())
    return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])


def _read(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"accelerate_config: {path}: not a readable YAML file: {error}") from None
    if not isinstance(given, dict):
        raise RecipeError(
            f"accelerate_config: {path}: expected a mapping of accelerate's settings, got"
            f" {type(given).__name__}. Start from one of {', '.join(config_names())}."
        )
    return given
