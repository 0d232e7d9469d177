"""LoRA adapters merged into their model, as engines serve them.

Applied beside a model in 16 bits, an adapter's small updates are lost: the model's output is a
number of that type already, and what moves it by less than half the distance to the next one leaves
it where it was. vLLM's CPU build moreover multiplies adapters one row at a time and fails where
log-probabilities of a prompt are asked for; its CUDA build takes no adapter of a model in float32
(`adapters`). Merged, the model is served as fast as any other.

In float32 nothing is lost. In bfloat16 rounding to the nearest would lose the same of the weights.
Sums are rounded up or down at random instead, so that the update is kept on average; what is added
is noise of the kind that bfloat16 has anyway. The weight-sync check proves the result like any
other.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ouroloop.loop.engines.checkpoint import Checkpoint

NO_WEIGHTS = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json")
# bfloat16 is the upper half of float32's bits.
LOWER_BITS = 16


def merge(checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    """Write the adapter's model, the adapter merged into it, to `folder`."""
    # Config and tokenizer are the base's own: the engine then sees the same model.
    shutil.copytree(checkpoint.weights, folder, ignore=NO_WEIGHTS, dirs_exist_ok=True)
    merged(checkpoint, dtype).save_pretrained(folder / "weights")
    for file in (folder / "weights").glob("*.safetensors*"):
        shutil.move(file, folder / file.name)
    shutil.rmtree(folder / "weights")


def merged(checkpoint: Checkpoint, dtype: str) -> Any:
    """The adapter's model with the adapter merged into it, on the CPU.

    The sum is made in float32 and kept in the type that it is served in.
    """
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.weights,
        # Rounded as the engine would round it: what no adapter touches is then stored exactly.
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        trust_remote_code=False,
    ).float()
    # On the CPU, where the model is: the GPU's memory is the engine's.
    adapted = PeftModel.from_pretrained(model, str(checkpoint.path), torch_device="cpu")
    whole = adapted.merge_and_unload()
    if dtype == "bfloat16":
        for name, parameter in whole.named_parameters():
            parameter.data = rounded_at_random(parameter.data, seed=zlib.crc32(name.encode()))
    return whole.to(getattr(torch, dtype))


def rounded_at_random(values: torch.Tensor, seed: int) -> torch.Tensor:
    """float32 numbers rounded to bfloat16's, up or down by chance, so that their mean is kept.

    A number that bfloat16 has already stays as it is; the same seed rounds alike.

    Source: stochastic rounding, Gupta et al. 1502.02551, section 3.1.
    """
    random = torch.Generator().manual_seed(seed)
    bits = values.contiguous().view(torch.int32)
    # Added below the bits that stay: it carries into them as often as the remainder is large.
    noise = torch.randint(
        2**LOWER_BITS, bits.shape, generator=random, dtype=torch.int32, device="cpu"
    )
    kept = (bits + noise.to(bits.device)) & -(2**LOWER_BITS)
    return kept.view(torch.float32)
