"""The memory that serving and training take at least, and what this machine has.

Lower bounds: weights, gradients, the optimiser's state, the key-value cache that is asked for.
Activations come on top and depend on the texts: what a batch of the longest would take is said, and
only what exceeds the whole machine without it is refused. docs/memory.md compares both with what
was measured.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.config import Recipe
from ouroloop.loop.devices import main_memory, this_device
from ouroloop.loop.models.shape import Shape
from ouroloop.loop.objectives import launcher
from ouroloop.loop.objectives.settings import MOST_LOGITS

GIB = 2**30
# Engines that hold the model on other machines, or in other processes of this one.
ELSEWHERE = ("ray", "server")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A weight and its gradient, each as wide as the weight.
PLAIN_COPIES = 2
# AdamW's first and second moment, as wide as the weight too (Kingma and Ba 1412.6980).
ADAM_COPIES = 2
ADAM = ("adamw_torch", "adamw_torch_fused", "adamw")
# Numbers that the backward pass keeps for each that goes into or comes out of a layer's matrices
# (norms, rotated keys, products of the gate come on top). Measured: 1.1 (docs/memory.md).
KEPT_NUMBERS = 1.2
# Of the logits at the learnt positions: they, their softmax and their gradient, in float32.
LOGIT_COPIES = 3
# Rows of a batch when a recipe does not say; transformers' own number.
BATCH = 8
# What LoRA adapts when a recipe does not say; peft's own table has these two for most models.
USUAL_TARGETS = ("q_proj", "v_proj")
ADAPTER: Mapping[str, Any] = {"r": 16, "target_modules": "all-linear"}


@dataclass(frozen=True)
class Room:
    """Memory for models. total and free in bytes, of one device; num_devices: GPUs, or 1."""

    total: int
    free: int
    num_devices: int
    is_gpu: bool

    @property
    def name(self) -> str:
        """For people."""
        return "GPU memory" if self.is_gpu else "memory"


@dataclass(frozen=True)
class Need:
    """What a run takes at least, in bytes. how: training's share in words.

    stays: whether the engine's memory is held while training runs.
    """

    serving: int
    training: int
    stays: bool
    how: str

    @property
    def most(self) -> int:
        """At the fullest moment."""
        if self.stays:
            return self.serving + self.training
        return max(self.serving, self.training)


def check(recipe: Recipe, shapes: list[Shape], room: Room | None = None) -> list[Finding]:
    """One finding: the need against the machine; none where the machine does not say.

    Args:
        recipe: without `auto`.
        shapes: of the model that is trained, then of the teachers that are served here.
        room: default: this machine's.
    """
    room = room or room_here()
    if room is None:
        return []
    need = need_of(recipe, shapes)
    devices = room.num_devices if _is_spread(recipe) else 1
    total, free = room.total * devices, room.free * devices
    served = f"serving takes at least {need.serving / GIB:.2f} GiB"
    if recipe.engine.kind in ELSEWHERE:
        served = f"serving takes memory elsewhere (engine.kind: {recipe.engine.kind})"
    size = f"{served}, training {need.training / GIB:.2f} ({need.how})"
    if need.training:
        size += f", and up to {activations(recipe, shapes[0]) / GIB:.1f} of activations"
    if need.stays:
        size += ", both at once"
    there = f"{total / GIB:.1f} GiB of {room.name}"
    if need.most > total:
        what = f"larger than this machine: {size}; it has {there}. {_remedy(recipe, shapes, total)}"
        return [Finding(Level.ERROR, "memory", what)]
    if need.most > free:
        what = f"{size}; of {there}, {free / GIB:.1f} are free. End what else uses it."
        return [Finding(Level.WARNING, "memory", what)]
    return [Finding(Level.OK, "memory", f"{size}; of {there}, {free / GIB:.1f} are free")]


def need_of(recipe: Recipe, shapes: list[Shape]) -> Need:
    """The lower bounds of a recipe."""
    training, how = _training(recipe, shapes[0])
    return Need(
        serving=max(_serving(recipe, shape) for shape in shapes),
        training=training,
        stays=recipe.engine.swap == "reload",
        how=how,
    )


def _serving(recipe: Recipe, shape: Shape) -> int:
    engine = recipe.engine
    # A scripted engine, or one of somebody's own: what it loads is not known here.
    if engine.kind not in ("vllm", "transformers"):
        return 0
    width = BYTES.get(engine.dtype, 2)
    cache = shape.cache_bytes(engine.max_model_len, width)
    if engine.kind == "vllm":
        cache = engine.kv_cache_memory_bytes or cache
    return shape.num_parameters * width + cache


def _training(recipe: Recipe, shape: Shape) -> tuple[int, str]:
    """The largest need of any stage, and how it comes about."""
    stages = [recipe.at(number) for number in recipe.first_rounds]
    return max((_training_of(stage, shape) for stage in stages), key=lambda need: need[0])


def _training_of(recipe: Recipe, shape: Shape) -> tuple[int, str]:
    # A reference model is asked before the first step, when there are no gradients yet: it and the
    # trained model together are smaller than what follows.
    if recipe.objective.use not in ("sft", "dpo"):
        return 0, f"objective {recipe.objective.use}: not known"
    count = shape.num_parameters
    if isinstance(recipe.peft, dict):
        adapted = _adapter_parameters(shape, recipe.peft)
        frozen = count * BYTES.get(recipe.engine.dtype, 2)
        own = adapted * BYTES["float32"] * (PLAIN_COPIES + ADAM_COPIES)
        return frozen + own, f"LoRA on {adapted / 1e6:.1f} M weights"
    # Weights are trained in float32 unless the recipe loads them otherwise.
    settings = recipe.trainer_settings
    given = (settings.get("model_init_kwargs") or {}).get("dtype", "float32")
    copies, how = PLAIN_COPIES, "all weights"
    if settings.get("optim", ADAM[0]) in ADAM:
        copies, how = copies + ADAM_COPIES, "all weights by AdamW"
    return count * BYTES.get(str(given), 2) * copies, how


def activations(recipe: Recipe, shape: Shape) -> int:
    """What a batch of texts as long as the context adds to training, in bytes; a rough bound."""
    sft = recipe.sft
    tokens = int(sft.get("per_device_train_batch_size", BATCH)) * recipe.engine.max_model_len
    layers = shape.layers or 1
    kept = KEPT_NUMBERS * sum(matrix.rows + matrix.columns for matrix in shape.linear)
    if sft.get("gradient_checkpointing"):
        # Every layer's input, and one layer's numbers at a time.
        kept = layers * (shape.heads or 0) * (shape.head_size or 0) + kept / layers
    logits = min(tokens * (shape.vocabulary or 0), MOST_LOGITS)
    width = BYTES.get(recipe.engine.dtype, 2)
    return int(tokens * kept * width) + LOGIT_COPIES * BYTES["float32"] * logits


def _adapter_parameters(shape: Shape, peft: Mapping[str, Any]) -> int:
    """Weights of LoRA's two matrices over all layers that it adapts."""
    targets = peft.get("target_modules") or USUAL_TARGETS
    rank = int(peft.get("r", 8))
    adapted = [matrix for matrix in shape.linear if is_adapted(matrix.name, targets)]
    return rank * sum(matrix.rows + matrix.columns for matrix in adapted)


def is_adapted(name: str, targets: str | Sequence[str]) -> bool:
    """Whether LoRA adapts the module of this name, as peft reads its `target_modules`."""
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _remedy(recipe: Recipe, shapes: list[Shape], total: int) -> str:
    """The smallest change of the recipe that fits."""
    respawn = recipe.engine.model_copy(update={"swap": "respawn"})
    adapter = recipe.peft if isinstance(recipe.peft, dict) else dict(ADAPTER)
    tries: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Set `engine: {swap: respawn}`", {"engine": respawn}),
        ("Train an adapter: `peft: {r: 16, target_modules: all-linear}`", {"peft": adapter}),
        (
            "Set `engine: {swap: respawn}` and `peft: {r: 16, target_modules: all-linear}`",
            {"engine": respawn, "peft": adapter},
        ),
    )
    for what, changes in tries:
        if need_of(recipe.model_copy(update=changes), shapes).most <= total:
            return f"{what}."
    return "Choose a smaller model, such as smollm2-135m, or a larger machine."


def _is_spread(recipe: Recipe) -> bool:
    """Whether the work may be divided over all GPUs."""
    if "tensor_parallel_size" in recipe.engine.extra:
        return True
    # Each process of a launcher that shards nothing holds all of it.
    is_divided = launcher.shards(recipe.accelerate_config) is not False
    return recipe.launcher == "accelerate" and is_divided


def room_here() -> Room | None:
    """The memory that models have on this machine; None where it does not say."""
    return _gpu_room() if this_device().is_gpu else _main_memory()


def _gpu_room() -> Room | None:
    command = [
        "nvidia-smi",
        "--query-gpu=memory.total,memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        # In MiB; the smallest card counts for all.
        rows = [tuple(map(int, line.split(","))) for line in done.stdout.splitlines()]
        total, free = min(rows)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    num_devices = min(len(rows), launcher.num_gpus())
    return Room(total * 2**20, free * 2**20, num_devices, is_gpu=True)


def _main_memory() -> Room | None:
    found = main_memory()
    return Room(found.total, found.free, num_devices=1, is_gpu=False) if found else None
