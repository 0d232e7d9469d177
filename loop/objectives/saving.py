"""From a checkpoint to a model that can be trained, and from a trained model to a checkpoint.

The same for every objective. Heavy libraries are imported inside the functions.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.checkpoint import (
    TOKENIZER_FILES,
    Checkpoint,
    check_checkpoint,
    tensor_types,
)
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import DataError
from ouroloop.loop.objectives import finite
from ouroloop.loop.objectives.job import TrainingJob

TOKENIZER_PATTERNS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
)
# What follows a prompt: in examples.parquet, and in pairs.parquet.
TEXT_COLUMNS = ("completion_token_ids", "chosen_token_ids", "rejected_token_ids")
# A safetensors header's name of a type -> torch's; others (8-bit weights) are left as they are.
TORCH_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def load_trainable(job: TrainingJob, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The model to train, and the LoraConfig when an adapter must be added to it.

    What is trained is float32: small updates vanish in bfloat16. Under `peft` the model's own
    weights are frozen and may have the type that training computes in. An adapter goes on being
    trained under `peft`, and is merged into its model without.
    """
    from transformers import AutoModelForCausalLM

    # What accelerate tells its processes of a config's zero3_init_flag.
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO3_INIT") != "true":
        load_whole()
    wanted = {
        "dtype": job.compute if job.peft else "float32",
        **(job.settings.get("model_init_kwargs") or {}),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    # Safetensors only and no remote code: they stand last, so a recipe cannot undo them.
    model = AutoModelForCausalLM.from_pretrained(checkpoint.weights, **wanted)
    if checkpoint.is_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(checkpoint.path), is_trainable=bool(job.peft))
        model = model if job.peft else model.merge_and_unload()
    if job.blend and job.blend_with and job.blend_with != job.init:
        _blend(model, job, checkpoint, check_checkpoint(job.blend_with))
    if job.peft and not checkpoint.is_adapter:
        from peft import LoraConfig

        return model, LoraConfig(**{"task_type": "CAUSAL_LM", **job.peft})
    return model, None


def load_whole() -> None:
    """Let this process load whole models, also under DeepSpeed ZeRO-3.

    From a trainer's arguments on transformers 5.17 loads every model in parts there, by all
    processes together, whatever zero3_init_flag says (integrations/deepspeed.py; the accelerator
    keeps what it goes by). Weights could then be neither interpolated nor merged, and one process
    alone would wait for the others for ever. The trainer that is made next turns it on again.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def _blend(model: Any, job: TrainingJob, checkpoint: Checkpoint, other: Checkpoint) -> None:
    """Put `job.blend` of another round's weights into the model that is about to be trained.

    An adapter that goes on being trained is drawn to the other where that is one too. Else B of its
    products B A is scaled, which is the same where the other is the model that it was begun on;
    what it trains besides is left (modules_to_save, DoRA's magnitudes).
    """
    share = job.blend
    if checkpoint.is_adapter and job.peft:
        import peft

        theirs = peft.load_peft_weights(str(other.path)) if other.is_adapter else {}
        blended = {}
        for name, ours in peft.get_peft_model_state_dict(model).items():
            if name in theirs:
                blended[name] = ours.lerp(theirs[name].to(ours), share)
            else:
                is_factor_b = "lora_B" in name or "lora_embedding_B" in name
                blended[name] = ours * (1 - share) if is_factor_b else ours
        peft.set_peft_model_state_dict(model, blended)
        return
    whole = load_trainable(replace(job, init=other.path, peft=None, blend=0.0), other)[0]
    theirs = whole.state_dict()
    model.load_state_dict(
        {name: ours.lerp(theirs[name].to(ours), share) for name, ours in model.state_dict().items()}
    )


def load_baseline(job: TrainingJob) -> Any:
    """Round 0's model, whole, in the type that the trained model has."""
    import torch

    assert job.baseline is not None, "the loop names the baseline of every round's job"
    plain = replace(job, init=job.baseline, peft=None, blend=0.0)
    model, _ = load_trainable(plain, check_checkpoint(job.baseline))
    return model.to(getattr(torch, job.compute)) if job.peft else model


def check_ids(where: str, prompt: Sequence[int], completion: Sequence[int], codec: Codec) -> None:
    """Refuse a text that nobody should learn from.

    Raises:
        DataError: no stop token at the end, or an id that the tokenizer does not have.
    """
    # A text without its stop token teaches never to stop. The loop leaves such out; this is the
    # last line of defence.
    if not completion or completion[-1] not in codec.stop_token_ids:
        raise DataError(
            f"{where}: the completion does not end with a stop token"
            f" {sorted(codec.stop_token_ids)}, so it was cut."
        )
    if max(*prompt, *completion) >= len(codec.tokenizer):
        raise DataError(
            f"{where}: token id {max(*prompt, *completion)} is not in the tokenizer of"
            f" {codec.folder}."
        )


def store_like(folder: Path, init: Checkpoint) -> None:
    """Store the saved weights in the number types of the model that training started from.

    Tensor by tensor; an adapter's in the model's most common type. Training holds float32, which
    would double a bfloat16 model's files and fill every digit with less than was measured.

    Raises:
        NotFiniteError: a weight is NaN or infinite, or does not fit into the type.
    """
    from safetensors.torch import load_file, save_file

    types = {name: found for name, (found, _) in tensor_types(init.weights).items()}
    common = Counter(found for found in types.values() if found in TORCH_TYPES).most_common(1)
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        stored = {
            name: _cast(tensor, types.get(name, common[0][0] if common else ""))
            for name, tensor in tensors.items()
        }
        finite.check_weights(stored, file)
        if any(stored[name].dtype != tensor.dtype for name, tensor in tensors.items()):
            # Under another name first: the tensors above are views of the file.
            written = file.with_suffix(".rewritten")
            save_file(stored, written, metadata={"format": "pt"})
            written.replace(file)


def _cast(tensor: Any, wanted: str) -> Any:
    """The tensor in the type that a safetensors header calls `wanted`, if both are floats."""
    import torch

    if wanted not in TORCH_TYPES or not tensor.is_floating_point():
        return tensor
    return tensor.to(getattr(torch, TORCH_TYPES[wanted]))


def complete_folder(folder: Path, init: Checkpoint) -> None:
    """Make the saved folder a checkpoint like `init`.

    The same tokenizer files and config, no pickles, no sampling defaults.

    Files are copied, not saved again: an engine then sees the same model with other weights, and
    may swap them.
    """
    # A pickle, which nobody may have to load.
    (folder / "training_args.bin").unlink(missing_ok=True)
    for pattern in TOKENIZER_PATTERNS:
        for file in init.tokenizer.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    if (folder / "adapter_config.json").exists():
        return
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = json.loads((init.weights / "config.json").read_text(encoding="utf-8"))
    # The library that wrote them; their type is the initial one's (`store_like`).
    config |= {key: saved[key] for key in ("transformers_version",) if key in saved}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    path = init.weights / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    # No temperature, no top_p: a checkpoint must not change how it is sampled.
    kept = {
        key: generation[key]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        if key in generation
    }
    (folder / "generation_config.json").write_text(
        json.dumps(kept, indent=2) + "\n", encoding="utf-8"
    )


def checked_against_start(job: TrainingJob, folder: Path) -> weight_sync.WeightSyncCheck:
    """The new checkpoint's weight-sync check, which tells it from the one it started from.

    Its texts are some of the round's own examples: there training moved the weights most.
    """
    examples = learnt_texts(job.examples)
    made = weight_sync_truth.make_trained(folder, job.init, examples, job.dtype)
    return replace(made, checkpoint="/".join(job.output.parts[-2:]))


def learnt_texts(table: Path) -> list[list[int]]:
    """Token ids of every text of a training set, its prompt included; of a pair both texts."""
    import pyarrow.parquet as pq

    found = pq.read_table(table)
    texts = [name for name in TEXT_COLUMNS if name in found.column_names]
    rows = found.select(["prompt_token_ids", *texts]).to_pylist()
    return [[*row["prompt_token_ids"], *row[name]] for row in rows for name in texts]


def free_memory() -> None:
    """Give back what the trainer held, so that the new weights can be loaded and checked."""
    import torch

    # The trainer holds cycles; only a collection frees the tensors in them.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # The check is made by rank 0 alone: the others have ended.
    load_whole()


def peak_memory_bytes() -> int:
    """The most memory that this process held: the GPU's where there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # KiB on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else 1024 * peak
