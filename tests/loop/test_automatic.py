"""What `auto` in a recipe becomes on which device and for which model, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ouroloop.loop.devices import Device, FloatType, Gpu, device_of, gpus
from ouroloop.loop.engines.checkpoint import check_checkpoint, num_parameters
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.recipes import automatic
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve
from ouroloop.loop.setup import prepare, resolve_model

OLD, NEW = Gpu("Tesla T4", "580.1", 7.5), Gpu("NVIDIA H200", "580.1", 9.0)
UNREAD = Gpu("NVIDIA X", "470.1")
FAST = Device(False, FloatType.BFLOAT16, "a test says so")
SLOW = Device(False, FloatType.FLOAT32, "a test says so")


@pytest.mark.parametrize(
    ("cards", "cuda", "flags", "visible", "is_gpu", "fast"),
    [
        ((NEW,), "13.0", "", None, True, "bfloat16"),
        ((NEW, OLD), "13.0", "", None, True, "float32"),
        ((UNREAD,), "13.0", "", None, True, "float32"),
        ((NEW,), None, "avx512_bf16", None, False, "bfloat16"),
        ((NEW,), "13.0", "avx2", "", False, "float32"),
        ((NEW,), "13.0", "avx2", "-1", False, "float32"),
        ((NEW,), "13.0", "avx2", "0", True, "bfloat16"),
        ((), None, "avx2 avx512f", None, False, "float32"),
        ((), None, "avx2 amx_bf16", None, False, "bfloat16"),
    ],
)
def test_the_device_and_its_fast_type_follow_from_the_driver_torch_and_the_processor(
    cards: tuple[Gpu, ...],
    cuda: str | None,
    flags: str,
    visible: str | None,
    is_gpu: bool,
    fast: str,
) -> None:
    found = device_of(cards, cuda, frozenset(flags.split()), visible)
    assert (found.is_gpu, found.fast) == (is_gpu, fast)
    assert found.why


NEW_DRIVER = "#!/bin/sh\ncase $1 in *compute_cap) echo 'NVIDIA H200, 580.95.05, 9.0';; esac\n"
OLD_DRIVER = "#!/bin/sh\ncase $1 in *compute_cap) exit 2;; *) echo 'Tesla, K, 460.1';; esac\n"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (NEW_DRIVER, Gpu("NVIDIA H200", "580.95.05", 9.0)),
        (OLD_DRIVER, Gpu("Tesla, K", "460.1", None)),
    ],
    ids=["new driver", "old driver"],
)
def test_the_compute_capability_is_read_where_the_driver_knows_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: Gpu
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus() == (expected,)


def checkpoint(folder: Path, *sizes: tuple[int, ...]) -> Path:
    """A checkpoint whose safetensors file is its header alone: no weights are read."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"content": "<eos>"}], "model": {"vocab": {"a": 1}}})
    )
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    tensors = {
        f"w{i}": {"dtype": "BF16", "shape": size, "data_offsets": [0, 0]}
        for i, size in enumerate(sizes)
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "large", (8192, 8192), (128,))


def test_parameters_are_counted_from_the_headers(large: Path) -> None:
    assert num_parameters(check_checkpoint(large)) == 8192 * 8192 + 128


@pytest.mark.parametrize("cut", [b"", b"\x10", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"])
def test_a_file_that_was_cut_off_is_refused_with_the_remedy(tmp_path: Path, cut: bytes) -> None:
    folder = checkpoint(tmp_path / "cut", (2, 2))
    (folder / "model.safetensors").write_bytes(cut)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: not a readable .* Get it again"
    ):
        num_parameters(check_checkpoint(folder))


def chosen(base: Path, device: Device, **keys: object) -> automatic.Chosen:
    return automatic.choose(resolve({"name": "x", **keys}), check_checkpoint(base), device)


def test_a_large_model_gets_lora_and_the_devices_fast_type_and_both_are_said(large: Path) -> None:
    found = chosen(large, FAST)
    assert found.recipe.engine.dtype == "bfloat16"
    assert found.recipe.lora == {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    assert [line.split(":")[0] for line in found.why] == ["engine.dtype", "peft"]
    assert "a test says so" in found.why[0] and "67.1 M parameters" in found.why[1]
    assert chosen(large, SLOW).recipe.engine.dtype == "float32"


def test_what_a_recipe_says_itself_is_left_alone_and_needs_no_words(large: Path) -> None:
    keys = {"engine": {"dtype": "float16"}, "peft": {"r": 3}}
    found = chosen(large, FAST, **keys)
    assert (found.recipe, found.why) == (resolve({"name": "x", **keys}), ())
    assert chosen(large, FAST, peft=None).recipe.lora is None


def test_the_small_world_trains_all_weights_in_float32_on_every_device() -> None:
    found = chosen(resolve_model("arithmetic/base"), FAST)
    assert (found.recipe.engine.dtype, found.recipe.lora) == ("float32", None)


def test_auto_goes_on_training_an_adapter_with_its_own_rank(tmp_path: Path, large: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    own = {"base_model_name_or_path": str(large), "r": 64, "lora_alpha": 7, "target_modules": ["a"]}
    (adapter / "adapter_config.json").write_text(json.dumps(own))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    lora = chosen(adapter, SLOW).recipe.lora
    assert lora == {"r": 64, "lora_alpha": 7, "target_modules": ["a"]}


@pytest.mark.parametrize(("rate", "remarks"), [(1e-5, 1), (2e-4, 0)])
def test_a_learning_rate_for_all_weights_under_lora_is_remarked_on(
    large: Path, rate: float, remarks: int
) -> None:
    why = chosen(large, SLOW, sft={"learning_rate": rate}).why
    assert sum("LoRA's usual one is 0.0002" in line for line in why) == remarks


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("bfloat16", FAST, "bfloat16"),
        ("bfloat16", SLOW, "float32"),
        ("float32", FAST, "float32"),
        ("float16", FAST, "float32"),
    ],
)
def test_training_computes_in_bfloat16_only_where_it_is_served_and_fast(
    dtype: str, device: Device, expected: str
) -> None:
    assert automatic.training_type(dtype, device) == expected


def test_a_recipe_that_is_not_resolved_never_reaches_the_trainer() -> None:
    with pytest.raises(ValueError, match=r"automatic\.choose first"):
        _ = resolve({"name": "x"}).lora


def test_the_run_keeps_auto_and_its_setting_does_not() -> None:
    recipe = load_recipe(Path("runs/recipes/demo.yaml"))
    setting = prepare(recipe)
    assert (recipe.engine.dtype, recipe.peft) == ("auto", "auto")
    assert (setting.recipe.engine.dtype, setting.recipe.peft) == ("float32", None)
    assert len(setting.choices) == 2


@pytest.mark.slow
def test_choosing_imports_no_torch(large: Path) -> None:
    code = (
        "import sys; from ouroloop.loop import devices; devices.this_device();"
        " from ouroloop.loop.recipes import automatic; print('torch' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"
