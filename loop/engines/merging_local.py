"""LoRA adapters merged into their model, for engines that serve whole models only.

vLLM's CPU build multiplies adapters one row at a time, with a copy of the matrices for each row,
and fails on an adapter where log-probabilities of a prompt are asked for. Merged, the model is
served as fast as any other. In float32 nothing is lost; in bfloat16 the update is rounded, and the
weight-sync check says whether too much of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ouroloop.loop.engines.checkpoint import Checkpoint

NO_WEIGHTS = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json")


def merge(checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    """Write the adapter's model, the adapter merged into it, to `folder`.

    The sum is made in float32 and stored in the type that it is served in.
    """
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.weights, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    merged = PeftModel.from_pretrained(model, str(checkpoint.path)).merge_and_unload()
    # Config and tokenizer are the base's own: the engine then sees the same model.
    shutil.copytree(checkpoint.weights, folder, ignore=NO_WEIGHTS, dirs_exist_ok=True)
    merged.to(getattr(torch, dtype)).save_pretrained(folder / "weights")
    for file in (folder / "weights").glob("*.safetensors*"):
        shutil.move(file, folder / file.name)
    shutil.rmtree(folder / "weights")
