"""What `auto` in a recipe becomes, given the model and the device, each choice with its reason.

Resolved when a run is set up, never in the recipe that the run keeps: the same recipe runs on a
machine of another kind, and each run's events say what was chosen there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ouroloop.loop.config import Recipe
from ouroloop.loop.devices import Device, FloatType, this_device
from ouroloop.loop.engines.checkpoint import Checkpoint, num_parameters

AUTO = "auto"
# Up to here a model is small: its weights and training state fit anywhere, and a type with fewer
# digits would save next to nothing.
SMALL_PARAMETERS = 50_000_000
# LoRA on every linear layer but the output layer; alpha = 2 r is the usual scale.
# Source: Hu et al. 2106.09685; "all-linear" as Dettmers et al. 2305.14314, section 4.
LORA: Mapping[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
# The usual learning rate of LoRA, some ten times that of all weights (2e-5, SFTConfig's default).
LORA_LEARNING_RATE = 2e-4
# Below it a recipe's learning rate looks like one meant for all weights.
LOW_LORA_LEARNING_RATE = 5e-5


class Chosen(NamedTuple):
    """A recipe without `auto`, and a sentence for each choice and remark."""

    recipe: Recipe
    why: tuple[str, ...] = ()


def choose(recipe: Recipe, base: Checkpoint, device: Device | None = None) -> Chosen:
    """Resolve `engine.dtype: auto` and `peft: auto`.

    Args:
        recipe: as it was written.
        base: the model that is trained.
        device: default: this machine's.
    """
    if AUTO not in (recipe.engine.dtype, recipe.peft):
        return Chosen(recipe)
    device = device or this_device()
    size = num_parameters(base)
    why: list[str] = []
    changes: dict[str, Any] = {}
    if recipe.engine.dtype == AUTO:
        dtype, reason = _dtype(size, device)
        changes["engine"] = recipe.engine.model_copy(update={"dtype": dtype})
        why.append(f"engine.dtype: auto is {dtype}: {reason}")
    if recipe.peft == AUTO:
        peft, reason = _peft(recipe, base, size)
        changes["peft"] = peft
        why.append(f"peft: auto is {'null' if peft is None else json.dumps(peft)}: {reason}")
        rate = recipe.sft.get("learning_rate")
        if peft and isinstance(rate, int | float) and rate < LOW_LORA_LEARNING_RATE:
            why.append(
                f"sft.learning_rate: {rate:g} is usual for all weights (peft: null); LoRA's usual"
                f" one is {LORA_LEARNING_RATE:g}"
            )
    return Chosen(recipe.model_copy(update=changes), tuple(why))


def sized(recipe: Recipe, size: int, device: Device) -> Recipe:
    """As `choose` makes it, of a model of `size` weights that is not here."""
    changes: dict[str, Any] = {}
    if recipe.engine.dtype == AUTO:
        dtype, _ = _dtype(size, device)
        changes["engine"] = recipe.engine.model_copy(update={"dtype": dtype})
    if recipe.peft == AUTO:
        changes["peft"], _ = _peft(recipe, None, size)
    return recipe.model_copy(update=changes)


def training_type(dtype: str, device: Device | None = None) -> FloatType:
    """What training computes in, beside float32 master weights.

    bfloat16 where the served weights have it and the device is fast in it. `dtype`: the served
    weights' type.
    """
    device = device or this_device()
    if dtype == FloatType.BFLOAT16 and device.fast is FloatType.BFLOAT16:
        return FloatType.BFLOAT16
    return FloatType.FLOAT32


def _dtype(size: int, device: Device) -> tuple[FloatType, str]:
    if size <= SMALL_PARAMETERS:
        return FloatType.FLOAT32, f"the model is small ({_millions(size)} parameters)"
    return device.fast, device.why


def _peft(recipe: Recipe, base: Checkpoint | None, size: int) -> tuple[dict[str, Any] | None, str]:
    """LoraConfig's names or None, and why."""
    if base is not None and base.is_adapter:
        own = json.loads((base.path / "adapter_config.json").read_text(encoding="utf-8"))
        named = {key: own[key] for key in LORA if key in own}
        return {**LORA, **named}, "the model is an adapter, which goes on being trained"
    count = f"{_millions(size)} parameters"
    if size <= SMALL_PARAMETERS:
        return None, f"all weights are trained: the model is small ({count})"
    return dict(LORA), f"the model has {count}; null trains all weights"


def _millions(size: int) -> str:
    return f"{size / 1e6:.3g} M"
