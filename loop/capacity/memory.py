"""Memory of serving and of training on every device; the arithmetic of docs/memory.md, divided."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ouroloop.loop.capacity.hardware import Hardware
from ouroloop.loop.checks.memory import BYTES, activations, need_of
from ouroloop.loop.config import Recipe
from ouroloop.loop.models.shape import Shape
from ouroloop.loop.objectives import launcher

# A CUDA context with its libraries, bytes (docs/memory.md).
CONTEXT = 500_000_000
# Layers whose weights FSDP gathers at the same time: the one at work and the one prefetched.
GATHERED_LAYERS = 2
# A trained weight, its gradient and the optimizer's two moments, in float32.
STATE_BYTES = 16
STORED_BYTES = {"F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Memory:
    """Bytes on every device.

    Attributes:
        devices_an_engine: tensor-parallel group that holds the weights.
        num_engines: such groups.
        weights: served.
        cache: keys and values of `concurrency` texts as long as the context.
        concurrency: texts that an engine samples at the same time.
        states: trained weights, gradients and the optimizer's moments.
        kept: activations and logits of a batch.
        most: at the fullest moment; both stages at once where the engine stays.
        how: what is trained.
    """

    devices_an_engine: int
    num_engines: int
    weights: float
    cache: float
    concurrency: int
    states: float
    kept: float
    most: float
    how: str


def memory_of(recipe: Recipe, shape: Shape, hardware: Hardware) -> Memory:
    """What every device holds; on a CPU all of it is in one place."""
    engine, width = recipe.engine, BYTES.get(recipe.engine.dtype, 2)
    weights = shape.num_parameters * width
    group = _group(recipe, shape, hardware, weights)
    # As much as the engine may take, less weights and context.
    room = float(engine.kv_cache_memory_bytes or 0)
    if hardware.memory is not None and not engine.kv_cache_memory_bytes:
        share = engine.gpu_memory_utilization * hardware.memory - CONTEXT
        room = max(0.0, group * share - weights)
    a_text = shape.cache_bytes(engine.max_model_len, width) or 1
    concurrency = int(min(engine.concurrency, engine.max_num_seqs, room // a_text))
    states, kept, how = _training(recipe, shape, hardware)
    serving = (weights + room) / group + CONTEXT * hardware.is_gpu
    training = states + kept + CONTEXT * hardware.is_gpu
    is_both = engine.swap == "reload"
    return Memory(
        devices_an_engine=group,
        num_engines=hardware.num_devices // group,
        weights=weights / group,
        cache=room / group,
        concurrency=concurrency,
        states=states,
        kept=kept,
        most=serving + training if is_both else max(serving, training),
        how=how,
    )


def _group(recipe: Recipe, shape: Shape, hardware: Hardware, weights: int) -> int:
    """The smallest power of two whose share of the memory holds the weights and half as much."""
    asked = recipe.engine.extra.get("tensor_parallel_size")
    if asked:
        return int(asked)
    group = 1
    if hardware.memory is None:
        return group
    usable = recipe.engine.gpu_memory_utilization * hardware.memory - CONTEXT
    # A group of more devices than there are heads cannot be: each holds some whole heads.
    most = min(hardware.num_devices, shape.kv_heads or 1)
    while 1.5 * weights > group * usable and 2 * group <= most:
        group *= 2
    return group


def _training(recipe: Recipe, shape: Shape, hardware: Hardware) -> tuple[float, float, str]:
    need = need_of(recipe, [shape])
    states, how = float(need.training), need.how
    kept = float(activations(recipe, shape))
    is_divided = launcher.shards(recipe.accelerate_config) is not False
    if recipe.launcher == "accelerate" and is_divided and hardware.num_devices > 1:
        # Fully sharded (ZeRO stage 3, Rajbhandari et al. 1910.02054): states are divided, a few
        # layers' weights are gathered in the width that is computed in.
        layers = shape.layers or 1
        width = BYTES.get(recipe.engine.dtype, 2)
        kept += GATHERED_LAYERS * shape.num_parameters / layers * width
        states /= hardware.num_devices
        how += f", sharded over {hardware.num_devices}"
    return states, kept, how


def checkpoint_bytes(recipe: Recipe, shape: Shape) -> int:
    """A round's checkpoint: what is trained, in the type of the model's own files."""
    width = STORED_BYTES.get(shape.stored, BYTES["float32"])
    if isinstance(recipe.peft, dict):
        frozen = replace(shape, linear=())
        whole, base = need_of(recipe, [shape]).training, need_of(recipe, [frozen]).training
        return (whole - base) // STATE_BYTES * width
    return shape.num_parameters * width
