"""A round of training that changes little, served stale on purpose, and the check that stops it.

The prompts alone cannot see such a change in bfloat16: with them, stale weights would pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import swapping
from tiny import CHARACTERS, save_tiny_adapter, save_tiny_llama

from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.checkpoint import check_checkpoint, same_weights
from ouroloop.loop.errors import StaleWeightsError, UnprovenWeightsError

pytestmark = pytest.mark.slow

CONFIG = {
    "max_model_len": 128,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 2**26,
    "swap": "reload",
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "old", tied=True, spread=0.1)


def examples() -> list[list[int]]:
    rng = random.Random(0)
    return [[4 + rng.randrange(len(CHARACTERS)) for _ in range(60)] for _ in range(100)]


def changed(old: Path, folder: Path, by: float) -> Path:
    """A copy of `old` whose weights each moved by about the part `by`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(old, dtype="float32")
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data *= 1 + by * torch.randn_like(parameter)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(old).save_pretrained(folder)
    return folder


@pytest.fixture
def swap(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Serve `old`, then `new`; then both again, broken as the call says. See `swapping.swap`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OUROLOOP_TEST_BREAK", str(tmp_path / "broken"))

    def run(
        new: Path, check: weight_sync.WeightSyncCheck, broken: str = "", kind: str = "transformers"
    ) -> str:
        base = weight_sync_truth.make(old, check.dtype)
        for name, made in (("old", base), ("new", check)):
            weight_sync.write(made, tmp_path / f"{name}.json")
        config = {**CONFIG, "kind": kind, "dtype": check.dtype}
        served = ((old, tmp_path / "old.json"), (new, tmp_path / "new.json"))
        return swapping.swap(tmp_path, config, *served, broken=broken)

    return run


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stale_weights_are_caught_though_every_prompt_is_answered_alike(
    swap: Callable[..., str], old: Path, tmp_path: Path, dtype: str
) -> None:
    new = changed(old, tmp_path / "new", by={"float32": 2e-4, "bfloat16": 0.02}[dtype])
    check = weight_sync_truth.make_trained(new, old, examples(), dtype)
    assert check.change is not None and check.change.has_power
    said = swap(new, check, broken="reload")
    assert "0 of 4 weight-sync prompts" in said
    assert "to the last bit, those before the swap" in said


# Where only the tied output layer is old, its part of the change must be more than rounding.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("broken", "by"), [("reload", 2e-4), ("repack", 0.01)])
def test_vllm_is_proven_after_a_small_change_and_its_stale_weights_are_caught(
    swap: Callable[..., str], old: Path, tmp_path: Path, broken: str, by: float
) -> None:
    new = changed(old, tmp_path / "new", by)
    check = weight_sync_truth.make_trained(new, old, examples(), "float32")
    said = swap(new, check, broken=broken, kind="vllm")
    assert "they show " in said
    # The body is new where only the tied output layer is old.
    assert ("to the last bit" in said) is (broken == "reload")


def test_the_share_alone_catches_what_is_stale_from_the_start(
    swap: Callable[..., str], old: Path, tmp_path: Path
) -> None:
    """A fresh engine that reads the wrong folder: nothing was served before it."""
    new = changed(old, tmp_path / "new", by=0.02)
    check = weight_sync_truth.make_trained(new, old, examples(), "bfloat16")
    with pytest.raises(StaleWeightsError, match=r"they show -?0\.\d+ \+- .*1: the new weights"):
        swap(old, check)


def test_a_change_that_vanishes_in_bfloat16_is_refused_and_in_float32_is_proven(
    swap: Callable[..., str], old: Path, tmp_path: Path
) -> None:
    new = changed(old, tmp_path / "new", by=1e-6)
    swap(new, weight_sync_truth.make_trained(new, old, examples(), "float32"))
    check = weight_sync_truth.make_trained(new, old, examples(), "bfloat16")
    assert check.change is not None and not check.change.has_power
    assert sum(len(text.token_ids) for text in check.texts) > 4000, "all that could help was tried"
    with pytest.raises(UnprovenWeightsError, match=r"bfloat16 can show\.\nRemedy"):
        swap(new, check)


def test_an_adapter_is_proven_and_its_base_in_its_place_is_not(
    swap: Callable[..., str], old: Path, tmp_path: Path
) -> None:
    adapter = save_tiny_adapter(old, tmp_path / "adapter")
    check = weight_sync_truth.make_trained(adapter, old, examples(), "bfloat16")
    assert swap(adapter, check, broken="reload")


def test_an_untrained_adapter_is_its_base_and_nothing_is_stale(
    swap: Callable[..., str], old: Path, tmp_path: Path
) -> None:
    adapter = save_tiny_adapter(old, tmp_path / "adapter", spread=0.0)
    check = weight_sync_truth.make_trained(adapter, old, examples(), "float32")
    assert check.change is not None and check.change.is_none
    swap(adapter, check)


def test_the_same_weights_in_another_folder_rightly_answer_as_before(
    swap: Callable[..., str], old: Path, tmp_path: Path
) -> None:
    new = changed(old, tmp_path / "new", by=0.0)
    # This is why the answers may be those of before the swap, to the last bit.
    assert same_weights(check_checkpoint(old), check_checkpoint(new))
    swap(new, replace(weight_sync_truth.make(new, "bfloat16"), checkpoint="new"))


def test_a_check_of_a_model_that_no_gpu_has_room_for_is_computed_on_the_processor(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected = weight_sync_truth.make(old, "bfloat16")
    moved = torch.nn.Module.to

    def full(self: torch.nn.Module, *args: object, **kwargs: object) -> torch.nn.Module:
        if args == ("cuda",):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return moved(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.Module, "to", full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert weight_sync_truth.make(old, "bfloat16") == expected
