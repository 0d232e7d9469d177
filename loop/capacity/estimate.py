"""Tokens a second by a data sheet alone: a roofline, where nobody has measured.

Decoding a token reads all weights and the keys and values of its text, or computes two operations a
weight, whichever takes longer (Pope et al. 2211.05102); training computes six a weight, eight where
layers are computed again (Kaplan et al. 2001.08361; Chen et al. 1604.06174).
"""

from __future__ import annotations

from typing import NamedTuple

from ouroloop.loop.capacity.hardware import Hardware
from ouroloop.loop.capacity.memory import Memory
from ouroloop.loop.checks.memory import BYTES
from ouroloop.loop.config import Recipe
from ouroloop.loop.models.shape import Shape

# Shares of the sheet that well-run jobs reach: 38 to 43 % of the operations in Llama 3's training
# (2407.21783, table 4), and about two thirds of the bandwidth in decoding.
COMPUTE_SHARE, BANDWIDTH_SHARE = 0.35, 0.6


class Rates(NamedTuple):
    """Tokens a second of all devices together."""

    sampling: float
    scoring: float
    training: float


def rates_of(recipe: Recipe, shape: Shape, hardware: Hardware, memory: Memory) -> Rates | None:
    """By the data sheet; None without one."""
    if hardware.sheet is None or not memory.concurrency:
        return None
    compute = hardware.sheet.tflops * 1e12 * COMPUTE_SHARE
    bandwidth = hardware.sheet.bandwidth_tb * 1e12 * BANDWIDTH_SHARE
    width = BYTES.get(recipe.engine.dtype, 2)
    group, batch, weights = memory.devices_an_engine, memory.concurrency, shape.num_parameters
    # A text is half as long as it may get while it is written, on average.
    cached = batch * shape.cache_bytes(recipe.engine.max_model_len, width) / 2
    reading = (weights * width + cached) / (group * bandwidth)
    computing = 2 * weights * batch / (group * compute)
    sampling = memory.num_engines * batch / max(reading, computing)
    is_lora = isinstance(recipe.peft, dict)
    again = 2 if recipe.trainer_settings.get("gradient_checkpointing") else 0
    # An adapter spares the gradients of the frozen weights: a third of the six.
    operations = (4 if is_lora else 6) + again
    num_trainers = hardware.num_devices if recipe.launcher == "accelerate" else 1
    training = num_trainers * compute / (operations * weights)
    return Rates(sampling, hardware.num_devices * compute / (2 * weights), training)
