"""From a checkpoint to a model that can be trained, and from a trained model to a checkpoint.

The same for every objective. Heavy libraries are imported inside the functions.
"""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.checkpoint import TOKENIZER_FILES, Checkpoint, check_checkpoint
from ouroloop.loop.objectives.job import TrainingJob

TOKENIZER_PATTERNS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
)


def load_trainable(job: TrainingJob, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The model to train, and the LoraConfig when an adapter must be added to it.

    Weights are float32 unless sft.model_init_kwargs.dtype says otherwise: small updates vanish in
    bfloat16. An adapter goes on being trained under `peft`, and is merged into its model without.
    """
    from transformers import AutoModelForCausalLM

    wanted = {
        "dtype": "float32",
        **(job.sft.get("model_init_kwargs") or {}),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    # Safetensors only and no remote code: they stand last, so a recipe cannot undo them.
    model = AutoModelForCausalLM.from_pretrained(checkpoint.weights, **wanted)
    if checkpoint.is_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(checkpoint.path), is_trainable=bool(job.peft))
        return (model if job.peft else model.merge_and_unload()), None
    if job.blend and job.blend_with:
        other = AutoModelForCausalLM.from_pretrained(
            check_checkpoint(job.blend_with).weights, **wanted
        ).state_dict()
        model.load_state_dict(
            {
                name: value.lerp(other[name].to(value), job.blend)
                for name, value in model.state_dict().items()
            }
        )
    if job.peft:
        from peft import LoraConfig

        return model, LoraConfig(**{"task_type": "CAUSAL_LM", **job.peft})
    return model, None


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
    # The trained weights' own precision, and the library that wrote them.
    config |= {key: saved[key] for key in ("dtype", "transformers_version") if key in saved}
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
    import pyarrow.parquet as pq

    columns = ["prompt_token_ids", "completion_token_ids"]
    table = pq.read_table(job.examples, columns=columns).to_pylist()
    examples = [[*row["prompt_token_ids"], *row["completion_token_ids"]] for row in table]
    made = weight_sync_truth.make_trained(folder, job.init, examples, job.dtype)
    return replace(made, checkpoint="/".join(job.output.parts[-2:]))


def free_memory() -> None:
    """Give back what the trainer held, so that the check of the new weights fits."""
    import torch

    # The trainer holds cycles; only a collection frees the tensors in them.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
