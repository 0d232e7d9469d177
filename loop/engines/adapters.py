"""Whether vLLM applies a LoRA adapter beside its model, or is given the two merged.

Merged unless the recipe says `engine.serve_adapters`: in 16 bits the sum of a model's output and an
adapter's is rounded to the nearest number, which loses small updates (decision 047). Imports
nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The ranks that vLLM makes room for; a larger one than the adapter's only costs memory.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# LoraConfig's own, where a recipe does not say.
RANK = 8
# Its kernels refuse other types (vllm 0.31, lora/ops/triton_ops/lora_shrink_op.py).
SERVED_TYPES = ("bfloat16", "float16")
# Of LoraConfig's settings: what it refuses, or takes no notice of (vllm 0.31, lora/peft_helper.py).
NOT_SERVED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern")


def are_served(config: Mapping[str, Any], *, on_cpu: bool) -> bool:
    """Whether vLLM applies adapters itself; else each is merged into its model first.

    Args:
        config: the engine's, with `serve_adapters` and `lora` (LoraConfig's names).
        on_cpu: vLLM's CPU build, whose adapters are slow and incomplete (`merging_local`).
    """
    lora: Mapping[str, Any] = config.get("lora") or {}
    if not lora or on_cpu or not config.get("serve_adapters"):
        return False
    if config.get("dtype") not in SERVED_TYPES:
        return False
    if any(lora.get(name) for name in NOT_SERVED) or lora.get("bias", "none") != "none":
        return False
    return _rank(lora) <= RANKS[-1]


def engine_arguments(config: Mapping[str, Any], *, on_cpu: bool) -> dict[str, Any]:
    """The EngineArgs for adapters that vLLM applies itself; none where it does not."""
    if not are_served(config, on_cpu=on_cpu):
        return {}
    rank = min(each for each in RANKS if each >= _rank(config["lora"]))
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}


def _rank(lora: Mapping[str, Any]) -> int:
    return int(lora.get("r", RANK))
