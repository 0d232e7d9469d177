"""Which adapters vLLM applies itself, which are merged first, and what merging leaves behind."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ouroloop.loop.config import EngineConfig, Recipe
from ouroloop.loop.engines import adapters
from ouroloop.loop.engines.vllm_local import VllmBackend

LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


def config(dtype: str = "bfloat16", **lora: Any) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "max_model_len": 64,
        "serve_adapters": True,
        "lora": {**LORA, **lora},
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_on_a_gpu_an_adapter_is_applied_by_vllm_with_room_for_its_rank(dtype: str) -> None:
    asked = adapters.engine_arguments(config(dtype, r=20), on_cpu=False)
    assert asked == {"enable_lora": True, "max_loras": 1, "max_lora_rank": 32}


@pytest.mark.parametrize(
    "refused",
    [
        config("float32"),
        config(use_dora=True),
        config(modules_to_save=["lm_head"]),
        config(bias="lora_only"),
        config(alpha_pattern={"q_proj": 64}),
        config(r=1024),
    ],
)
def test_what_vllms_kernels_refuse_is_merged_on_a_gpu_too(refused: dict[str, Any]) -> None:
    assert adapters.engine_arguments(refused, on_cpu=False) == {}
    assert not adapters.are_served(refused, on_cpu=False)


def test_on_a_gpu_adapters_are_merged_unless_the_recipe_says_otherwise() -> None:
    merged = {**config(), "serve_adapters": False}
    assert not adapters.are_served(merged, on_cpu=False)
    assert adapters.are_served(config(), on_cpu=False)


def test_the_engine_is_told_what_the_recipe_says() -> None:
    recipe = Recipe(name="x", model="y", peft=LORA, engine=EngineConfig(serve_adapters=True))
    asked = {**recipe.engine_config(), "dtype": "bfloat16"}
    assert adapters.engine_arguments(asked, on_cpu=False)["enable_lora"]


def test_on_a_cpu_all_adapters_are_merged_and_without_peft_there_are_none() -> None:
    assert adapters.engine_arguments(config(), on_cpu=True) == {}
    assert adapters.engine_arguments({"dtype": "bfloat16", "lora": None}, on_cpu=False) == {}


def test_vllm_itself_refuses_what_is_merged() -> None:
    """The reasons, in the installed vLLM: when it takes more, so may this."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    lora = Path(found.origin).parent / "lora"
    kernel = (lora / "ops/triton_ops/lora_shrink_op.py").read_text(encoding="utf-8")
    assert "assert inputs.dtype in [torch.float16, torch.bfloat16]" in kernel
    helper = (lora / "peft_helper.py").read_text(encoding="utf-8")
    assert "vLLM does not yet support DoRA" in helper
    assert "Adapter bias is not supported" in helper
    assert "rank_pattern" not in helper and "alpha_pattern" not in helper


def test_a_merged_model_goes_with_the_engine_that_served_it(tmp_path: Path) -> None:
    backend = VllmBackend(config())
    backend._merged = tempfile.TemporaryDirectory(dir=tmp_path)
    backend.close()
    assert not list(tmp_path.iterdir())
