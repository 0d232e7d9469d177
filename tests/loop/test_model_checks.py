"""What is known of a model before a run: context, heads, number type, memory, and its identity."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import Level, memory, model
from ouroloop.loop.checks.memory import GIB, Room
from ouroloop.loop.devices import Device, FloatType
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.errors import RecipeError, RunStateError
from ouroloop.loop.folder.frozen import inputs_of, refuse_other_inputs
from ouroloop.loop.folder.store import Store
from ouroloop.loop.models.shape import Matrix, Shape, read_shape
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import Setting, prepare

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

BASE = resolve_model("arithmetic/base")
NOWHERE = Path("no-such-run")
CPU = Device(is_gpu=False, fast=FloatType.FLOAT32, why="a test's")
# A billion weights: 4 GB in float32, 16 GB with gradients and AdamW's moments.
BILLION = Shape(
    architecture="LlamaForCausalLM",
    num_parameters=GIB,
    stored="BF16",
    positions=4096,
    layers=16,
    heads=16,
    kv_heads=4,
    head_size=128,
    vocabulary=1000,
    num_tokens=1000,
    linear=tuple(Matrix(f"layers.{i}.q_proj", 2048, 2048) for i in range(16)),
)


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16 units and with 1,000 GiB, wherever the tests run."""
    monkeypatch.setattr(model, "this_device", lambda: CPU)
    monkeypatch.setattr(memory, "room_here", lambda: room(1000))


def room(gib: float, free: float | None = None) -> Room:
    return Room(int(gib * GIB), int((gib if free is None else free) * GIB), 1, is_gpu=False)


@pytest.fixture
def changed(tmp_path: Path):
    """The embedded model with other numbers in its config, prepared with sections of a recipe."""

    def make(config: dict[str, object] | None = None, **sections: object) -> Setting:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(BASE, folder)
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**raw, **(config or {})}))
        return prepare(resolve({"name": "checked", "model": str(folder), **sections}))

    return make


def wrong(setting: Setting) -> list[str]:
    return [f.what for f in model.check(setting, NOWHERE) if f.level is not Level.OK]


# ----- context and engine -----


def test_the_embedded_model_is_described_in_five_lines(changed) -> None:
    found = model.check(changed(), NOWHERE)
    assert [f.level for f in found] == [Level.OK] * 5
    assert [f.about for f in found] == ["model", "context", "engine", "memory", "types"]
    assert "LlamaForCausalLM, 1.0 M parameters in F32, no chat template" in found[0].what


def test_a_context_beyond_the_positions_is_an_error(changed) -> None:
    (message,) = wrong(changed(engine={"max_model_len": 600}))
    assert "engine.max_model_len is 600" in message and "Set it to 512 or less" in message


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        ({"rope_type": "default"}, 512),
        ({"rope_type": "llama3", "factor": 8.0}, 512),
        ({"rope_type": "linear", "factor": 2.0}, 1024),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 512),
    ],
)
def test_stretched_positions_count(changed, rope: dict[str, object], positions: int) -> None:
    setting = changed({"rope_parameters": rope})
    assert read_shape(check_checkpoint(setting.base)).positions == positions


def test_the_language_part_of_a_model_of_several_inputs_counts(changed) -> None:
    setting = changed({"text_config": {"max_position_embeddings": 128, "hidden_size": 64}})
    assert read_shape(check_checkpoint(setting.base)).positions == 128


def test_a_tokenizer_with_more_tokens_than_the_model_is_an_error(changed) -> None:
    (message,) = wrong(changed({"vocab_size": 100}))
    assert "the tokenizer has 426 tokens, the model 100" in message


def test_heads_that_vllms_cpu_build_lacks_are_an_error_for_it_alone(changed) -> None:
    (message,) = wrong(changed({"head_dim": 48}))
    assert "heads of 48" in message and "`engine: {kind: transformers}`" in message
    assert wrong(changed({"head_dim": 48}, engine={"kind": "transformers"})) == []


@pytest.mark.parametrize(
    ("heads", "kv_heads", "parts", "says"),
    [
        (4, 4, 2, None),
        (4, 2, 4, None),
        (9, 3, 2, "does not divide the 9 heads"),
        (12, 3, 2, "neither divides the 3 key-value heads"),
    ],
)
def test_tensor_parallelism_must_divide_the_heads(
    changed, heads: int, kv_heads: int, parts: int, says: str | None
) -> None:
    config = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": 32}
    found = wrong(changed(config, engine={"extra": {"tensor_parallel_size": parts}}))
    assert [says in message for message in found] == ([] if says is None else [True])


def test_sixteen_bits_on_a_processor_that_emulates_them_are_a_warning(changed, monkeypatch) -> None:
    setting = changed(engine={"dtype": "bfloat16"})
    (message,) = wrong(setting)
    assert "emulates" in message and "Set float32" in message
    fast = replace(CPU, fast=FloatType.BFLOAT16)
    monkeypatch.setattr(model, "this_device", lambda: fast)
    assert wrong(setting) == []


def test_so_are_they_in_training_of_any_stage_and_the_warm_start(changed, monkeypatch) -> None:
    """A step of SmolLM2 took 100 seconds so, and 4 in float32."""
    stage = {"rounds": 1, "objective": "sft"}
    for sections, says in (
        ({"sft": {"bf16": True}}, "sft.bf16: true"),
        ({"rounds": 2, "stages": [stage, {**stage, "sft": {"bf16": True}}]}, "stages.1: sft.bf16"),
        ({"warm_start": {"sft": {"bf16": True}}}, "warm_start: sft.bf16: true"),
    ):
        setting = changed(**sections)
        (message,) = wrong(setting)
        assert message.startswith(says) and "Leave it out" in message
    monkeypatch.setattr(model, "this_device", lambda: replace(CPU, fast=FloatType.BFLOAT16))
    assert wrong(setting) == []


def test_a_teacher_is_looked_at_too(changed) -> None:
    teacher = changed({"max_position_embeddings": 128}).base
    (message,) = wrong(changed(teachers=[str(teacher)]))
    assert str(teacher) in message and "128 positions" in message


# ----- memory -----


def recipe(engine: dict[str, object] | None = None, **sections: object):
    """All weights in float32, unless the sections say otherwise."""
    engine = {"dtype": "float32", **(engine or {})}
    return resolve({"name": "checked", "peft": None, "engine": engine, **sections})


def test_the_need_is_weights_gradients_moments_and_cache() -> None:
    need = memory.need_of(recipe(), [BILLION])
    cache = 268_435_456
    assert need.serving == 4 * GIB + cache and need.training == 16 * GIB
    assert need.most == need.serving + need.training
    respawned = memory.need_of(recipe(engine={"swap": "respawn"}), [BILLION])
    assert respawned.most == respawned.training == 16 * GIB
    # Two bytes a weight, and keys and values of one text where the recipe asks for no cache.
    served = recipe(engine={"dtype": "bfloat16", "kv_cache_memory_bytes": None})
    one_text = 2 * 16 * 4 * 128 * 512 * 2
    assert memory.need_of(served, [BILLION]).serving == 2 * GIB + one_text


def test_an_adapter_costs_its_own_matrices_and_the_frozen_weights() -> None:
    adapter = {"r": 8, "target_modules": ["q_proj"]}
    need = memory.need_of(recipe(peft=adapter, engine={"dtype": "bfloat16"}), [BILLION])
    assert need.training == 2 * GIB + 16 * (8 * (2048 + 2048)) * 16
    other = memory.need_of(recipe(peft={**adapter, "target_modules": ["v_proj"]}), [BILLION])
    assert other.training == 4 * GIB


def test_an_optimiser_without_moments_needs_half() -> None:
    assert memory.need_of(recipe(sft={"optim": "sgd"}), [BILLION]).training == 8 * GIB


def model_of(layers: int, hidden: int, keys: int, inner: int, heads: int, **more: int) -> Shape:
    """The shape of a Llama or Qwen2. keys: width of the keys; inner: of the gate."""
    widths = {
        "q_proj": (hidden, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, hidden),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }
    linear = [Matrix(f"layers.{i}.{name}", *w) for i in range(layers) for name, w in widths.items()]
    sizes = {"layers": layers, "heads": heads, "head_size": hidden // heads, **more}
    return replace(BILLION, linear=tuple(linear), **sizes)


SMOLLM2 = model_of(30, 576, 192, 1536, heads=9, vocabulary=49_152, num_parameters=134_515_008)
QWEN = model_of(28, 1536, 256, 8960, heads=12, vocabulary=151_936, num_parameters=1_543_714_304)


def total(batch: int, tokens: int, shape: Shape, dtype: str, **sft: object) -> int:
    """Training with batches of so many texts of so many tokens, in bytes."""
    engine = {"dtype": dtype, "max_model_len": tokens}
    made = recipe(engine=engine, sft={"per_device_train_batch_size": batch, **sft})
    return memory.need_of(made, [shape]).training + memory.activations(made, shape)


def test_activations_are_what_was_measured_and_somewhat_more() -> None:
    # SmolLM2 on a CPU in float32: what 8 further texts of 128 tokens took (docs/memory.md).
    more = total(12, 128, SMOLLM2, "float32") - total(4, 128, SMOLLM2, "float32")
    assert 1.0 <= more / 1_583e6 <= 1.5
    # A model of Qwen2.5-1.5B's shape on an H100, checkpointed: 26.2 and 28.3 GiB at most.
    checkpointed = {"gradient_checkpointing": True}
    short = total(8, 234, QWEN, "bfloat16", **checkpointed)
    assert short / GIB == pytest.approx(26.2, abs=1.0)
    assert total(8, 1430, QWEN, "bfloat16", **checkpointed) / GIB == pytest.approx(28.3, abs=1.0)


def test_checkpointing_keeps_a_layers_input_in_place_of_all_its_numbers() -> None:
    whole = total(8, 1024, QWEN, "bfloat16")
    less = total(8, 1024, QWEN, "bfloat16", gradient_checkpointing=True)
    assert (whole - less) / GIB > 15
    (found,) = memory.check(recipe(), [QWEN], room(1000))
    assert "and up to 24.1 of activations, both at once; of" in found.what


@pytest.mark.parametrize(
    ("gib", "says"),
    [
        (18, "Set `engine: {swap: respawn}`."),
        (12, "Train an adapter: `peft: {r: 16, target_modules: all-linear}`."),
        (6, "Set `engine: {swap: respawn}` and `peft"),
        (3, "Choose a smaller model"),
    ],
)
def test_what_exceeds_the_machine_is_an_error_with_the_least_change(gib: int, says: str) -> None:
    (found,) = memory.check(recipe(), [BILLION], room(gib))
    assert found.level is Level.ERROR and says in found.what
    assert f"it has {gib}.0 GiB of memory" in found.what


def test_what_exceeds_only_the_free_memory_is_a_warning() -> None:
    (found,) = memory.check(recipe(), [BILLION], room(64, free=10))
    assert found.level is Level.WARNING and "10.0 are free" in found.what
    assert memory.check(recipe(), [BILLION], room(64))[0].level is Level.OK


def test_parts_of_ones_own_are_not_guessed_at() -> None:
    need = memory.need_of(recipe(engine={"kind": "scripted"}), [BILLION])
    assert need.serving == 0 and need.training == 16 * GIB


def test_this_machines_own_memory_is_read() -> None:
    found = memory._main_memory()
    if found is None:
        pytest.skip("no /proc/meminfo here")
    assert 0 < found.free <= found.total


@pytest.mark.parametrize(("visible", "count"), [(None, 4), ("0,3", 2)])
def test_gpus_that_a_run_does_not_see_are_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    program = tmp_path / "nvidia-smi"
    rows = 'case "$1" in *memory*) echo 81559, 81000;; *) echo H100, 580.1, 9.0;; esac'
    program.write_text(f"#!/bin/sh\nfor i in 1 2 3 4; do {rows}; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = memory._gpu_room()
    assert found is not None and found.num_devices == count and found.total == 81559 * 2**20


# ----- from the command line -----


def huge(folder: Path) -> Path:
    """The embedded model with a file whose header claims 10^13 weights and holds none."""
    shutil.copytree(BASE, folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    entry = {"dtype": "F32", "shape": [10**7, 10**6], "data_offsets": [0, 0]}
    header = json.dumps({"w": entry}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("huge", "larger than this machine: serving takes at least 37253"),
        ("org/some-model", "not in the hub's cache"),
        ("parts-00001-of-00002.gguf", "a model in several GGUF files"),
        ("smollm2", "Did you mean 'smollm2-135m'?"),
        ("chat", "no chat template"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--check"]])
def test_a_model_that_cannot_be_used_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, says: str, more: list[str]
) -> None:
    raw: dict[str, object] = {"name": "wrong", "model": given}
    if given == "huge":
        # Chosen for the device, it would be half the size where bfloat16 is fast.
        raw |= {"model": str(huge(tmp_path / "huge")), "engine": {"dtype": "float32"}}
    elif given.endswith(".gguf"):
        (tmp_path / given).write_bytes(b"")
    elif given == "chat":
        raw = {"name": "wrong", "task": {"kind": "arithmetic", "prompts": {"chat": True}}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    runs = tmp_path / "runs"
    assert main(["run", str(path), "--runs", str(runs), *more]) == 2
    captured = capsys.readouterr()
    said = captured.err + captured.out
    assert says in said and "Traceback" not in said
    assert not runs.exists()


# ----- the same name, other weights -----


def test_a_run_does_not_go_on_with_other_weights_under_the_same_name(tmp_path: Path) -> None:
    folder = shutil.copytree(BASE, tmp_path / "model")
    setting = prepare(resolve({"name": "run", "model": str(folder)}))
    store = Store.create(tmp_path / "runs", setting.recipe, "none", inputs_of(setting))
    try:
        refuse_other_inputs(store, setting)
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        with pytest.raises(
            RunStateError, match=r"(?s)checkpoint .* at the start, .*Put the old files"
        ):
            refuse_other_inputs(store, setting)
    finally:
        store.close()


def test_a_run_refuses_at_its_start_what_the_check_calls_an_error(changed) -> None:
    with pytest.raises(RecipeError, match="512 positions"):
        model.refuse(changed(engine={"max_model_len": 600}))


def test_target_modules_that_the_model_has_not_are_an_error_before_anything_is_sampled() -> None:
    def found(targets: object) -> list[str]:
        raw = {"name": "lora", "peft": {"r": 4, "target_modules": targets}}
        about = model.check(prepare(resolve(raw)), NOWHERE)
        return [each.what for each in about if each.level is Level.ERROR]

    assert found(["q_proj"]) == found("all-linear") == found(["embed_tokens"]) == []
    (what,) = found(["nope"])
    assert "peft.target_modules: ['nope'], but arithmetic/base has no such module" in what
    assert "q_proj" in what
