"""A checkpoint's model in plain transformers, where there is room for it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ouroloop.loop.engines.checkpoint import Checkpoint


def load_model(checkpoint: Checkpoint, dtype: str, on_cpu: bool = False) -> Any:
    """The model in evaluation mode, its adapter (if it is one) applied but not merged.

    On the GPU when there is one, unless `on_cpu`.
    """
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.weights,
        dtype=getattr(torch, dtype),
        trust_remote_code=False,
        use_safetensors=True,
    )
    if checkpoint.is_adapter:
        from peft import PeftModel

        # Where the model is; by default PEFT would take the GPU's memory for it.
        model = PeftModel.from_pretrained(model, str(checkpoint.path), torch_device="cpu")
    return (model if on_cpu else on_gpu(model)).eval()


def in_float32(model: Any) -> Any:
    """The same model, computing in float32: on the GPU, or on the CPU where it does not fit there.

    It may be larger than one GPU, and be served by several; or an engine has the memory.
    """
    try:
        return on_gpu(model).float()
    except torch.OutOfMemoryError:
        return model.cpu().float()


def on_gpu(model: Any) -> Any:
    """The model where it computes: on the GPU when there is one."""
    return model.to("cuda") if torch.cuda.is_available() else model
