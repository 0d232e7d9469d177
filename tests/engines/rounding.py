"""bfloat16 on a computer without bfloat16 units: what it does to a model's numbers, in float32.

Real kernels keep weights and everything that passes from one layer to the next in bfloat16, and add
up in float32. So does this: weights are rounded once, and what each module hands on is rounded
every time.
"""

from __future__ import annotations

from typing import Any

import torch


def rounded(value: Any) -> Any:
    """The numbers of a module's output as bfloat16 holds them."""
    if isinstance(value, tuple):
        return tuple(rounded(part) for part in value)
    if torch.is_tensor(value) and value.dtype == torch.float32:
        return value.bfloat16().float()
    return value


def as_bfloat16(model: Any) -> Any:
    """Make a float32 model round as one in bfloat16 does; returns it."""
    for parameter in model.parameters():
        parameter.data = rounded(parameter.data)
    for name, module in model.named_modules():
        # Positions are computed in float32 by real kernels too.
        if "rotary" not in name:
            module.register_forward_hook(lambda module, given, output: rounded(output))
    return model
