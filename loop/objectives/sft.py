"""Fine-tuning on kept samples with TRL's SFTTrainer, in a child process.

Job.json in, a checkpoint folder and train.json out.

`train` and `canary_of` are the parent's side and import nothing heavy; `python -m
ouroloop.loop.objectives.sft JOB` is the child's.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import weight_sync as canary
from ouroloop.loop.engines.checkpoint import TOKENIZER_FILES, Checkpoint, check_checkpoint
from ouroloop.loop.errors import DataError, OuroloopError, RecipeError, RunStateError
from ouroloop.loop.objectives.child import run_child, tell, watch_parent
from ouroloop.loop.objectives.sft_job import SftJob, check_settings, settings_for

__all__ = ["SftJob", "canary_of", "check_settings", "train", "warm_up"]

TOKENIZER_PATTERNS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
)


def train(
    job: SftJob,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    here: bool = False,
) -> dict[str, Any]:
    """Train in a child process and return what train.json says.

    The checkpoint appears at `job.output` whole or not at all, then train.json; what a killed
    attempt left is cleared first.

    Args: job: what to train on what. folder: the round's folder; receives job.json and train.json.
        on_progress: told (steps done, steps in all). here: in this process instead, for many short
        runs one after the other: the libraries are imported once.

    Raises:
        RecipeError: a name or value in `sft` or `peft` is wrong.
        DataError: the examples cannot be trained on.
        TrainingError: the child failed; its log's last lines are quoted.
        RunStateError: the folder holds a train.json already.
    """
    if (folder / "train.json").exists():
        raise RunStateError(
            f"{folder}/train.json: this round is trained already. A round is never overwritten."
        )
    check_settings(job.sft, job.peft)
    for leftover in (job.output, _temporary(job.output)):
        shutil.rmtree(leftover, ignore_errors=True)
    (folder / "job.json").write_text(json.dumps(job.to_json(), indent=1) + "\n", encoding="utf-8")
    if here:
        run(job, folder)
    else:
        run_child(*_command(job, folder / "job.json"), job.log_path, on_progress)
    facts: dict[str, Any] = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    if facts["weight_sync"]["blind"]:
        logging.getLogger(__name__).warning(
            "%s: training moved the canary by %.2g nats at most, too little to tell these weights"
            " from those before.",
            job.output,
            facts["weight_sync"]["max_logprob_change"],
        )
    return facts


def warm_up() -> None:
    """Import what training `here` needs, once, and keep the garbage collector off it.

    Every training collects garbage twice or more, and would go through half a million objects of
    the libraries: a quarter of a second.
    """
    importlib.import_module("trl.trainer.sft_trainer")
    gc.freeze()


def canary_of(checkpoint: Path, folder: Path, dtype: str = "float32") -> Path:
    """The canary of a checkpoint.

    Its own, or one made (in a child process) and kept in `folder`/canaries until its files change.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        TrainingError: the child failed.
    """
    check_checkpoint(checkpoint)
    own = checkpoint / canary.FILE_NAME
    if own.exists() and canary.read(own).dtype == dtype:
        return own
    files = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(checkpoint.iterdir())
    ]
    digest = hashlib.sha256(repr((str(checkpoint.resolve()), files)).encode()).hexdigest()[:8]
    made = folder / "canaries" / f"{checkpoint.name}-{digest}-{dtype}.json"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--canary", str(checkpoint), str(made), "--dtype", dtype]
        run_child("ouroloop.loop.objectives.sft", arguments, made.with_suffix(".log"))
    return made


def _command(job: SftJob, job_path: Path) -> tuple[str, list[str]]:
    """Module to run, and its arguments."""
    if job.launcher == "python":
        return "ouroloop.loop.objectives.sft", [str(job_path)]
    config = ["--config_file", str(job.accelerate_config)] if job.accelerate_config else []
    return "accelerate.commands.launch", [
        *config,
        "--module",
        "ouroloop.loop.objectives.sft",
        str(job_path),
    ]


def _temporary(output: Path) -> Path:
    return output.with_name(f"{output.name}.tmp")


def main(arguments: list[str] | None = None) -> int:
    """`python -m ouroloop.loop.objectives.sft JOB` trains.

    `--canary CHECKPOINT OUT` computes a checkpoint's canary.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ouroloop.loop.objectives.sft", description=main.__doc__
    )
    parser.add_argument("job", nargs="?", type=Path)
    parser.add_argument("--canary", nargs=2, type=Path, metavar=("CHECKPOINT", "OUT"))
    parser.add_argument("--dtype", default="float32", choices=sorted(canary.TOLERANCES))
    options = parser.parse_args(arguments)
    if (options.job is None) == (options.canary is None):
        parser.error("give either a job.json or --canary CHECKPOINT OUT")
    watch_parent()
    try:
        if options.canary:
            canary.write(canary.make(options.canary[0], options.dtype), options.canary[1])
        else:
            run(
                SftJob.from_json(json.loads(options.job.read_text(encoding="utf-8"))),
                options.job.parent,
            )
    except OuroloopError as error:
        print(error, file=sys.stderr)
        tell(error=type(error).__name__, message=str(error))
        return error.exit_code
    return 0


def run(job: SftJob, folder: Path) -> None:
    """Train, save, prove, and only then let the checkpoint appear.

    Under `accelerate launch` every rank runs this; rank 0 writes.
    """
    started = time.monotonic()
    checkpoint = check_checkpoint(job.init)
    rows, origins, num_refused = read_rows(job, checkpoint)
    trainer = build_trainer(job, checkpoint, rows)
    ready = time.monotonic()
    trainer.train()
    temporary = _temporary(job.output)
    trainer.save_model(str(temporary))
    facts = {
        "status": "trained",
        "reason": None,
        "num_examples": len(rows),
        "num_refused": num_refused,
        "num_tokens": sum(len(row["input_ids"]) for row in rows),
        "num_steps": trainer.state.global_step,
        "start_seconds": round(ready - started, 3),
        "train_seconds": round(time.monotonic() - ready, 3),
        "loss": [
            {key: at.get(key) for key in ("step", "loss", "entropy")}
            for at in trainer.state.log_history
            if "loss" in at
        ],
        "checkpoint": "/".join(job.output.parts[-3:]),
        "init": str(job.init),
        "blend": job.blend,
        "by_origin": dict(Counter(origins)),
        "sft_config": json.loads(json.dumps(trainer.args.to_dict(), default=str)),
    }
    is_main = trainer.is_world_process_zero()
    with contextlib.suppress(
        OSError
    ):  # TRL makes its output folder, and leaves it empty unless sft.save_strategy says otherwise
        Path(trainer.args.output_dir).rmdir()
    trainer.accelerator.end_training()
    del trainer
    _free_memory()
    if not is_main:
        return
    _complete_folder(temporary, checkpoint)
    proof = _canary_with_movement(job, temporary)
    canary.write(proof, temporary / canary.FILE_NAME)
    temporary.rename(job.output)
    facts |= {"weight_sync": proof.moved, "seconds": round(time.monotonic() - started, 3)}
    written = folder / "train.json.tmp"
    written.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    written.rename(folder / "train.json")


def read_rows(
    job: SftJob, checkpoint: Checkpoint
) -> tuple[list[dict[str, list[int]]], list[str], int]:
    """The examples as TRL takes them, prompts masked (-100); their origins.

    And how many were left out as too long.

    Raises: DataError: no examples, a completion without a stop token at its end, or token ids that
        this tokenizer does not have.
    """
    import pyarrow.parquet as pq

    from ouroloop.loop.engines.transformers_local import load_codec

    codec = load_codec(checkpoint)
    limit = min(job.max_length, job.sft.get("max_length") or job.max_length)
    table = pq.read_table(job.examples).to_pylist()
    rows: list[dict[str, list[int]]] = []
    origins: list[str] = []
    for i, example in enumerate(table):
        where = f"{job.examples} row {i}"
        prompt, completion = (
            list(example["prompt_token_ids"]),
            list(example["completion_token_ids"]),
        )
        if not completion or completion[-1] not in codec.stop_token_ids:
            raise DataError(
                f"{where}: the completion does not end with a stop token"
                f" {sorted(codec.stop_token_ids)}, so it was cut."
            )
        if max(*prompt, *completion) >= len(codec.tokenizer):
            raise DataError(
                f"{where}: token id {max(*prompt, *completion)} is not in the tokenizer of"
                f" {checkpoint.path}."
            )
        if len(prompt) + len(completion) <= limit:
            rows.append(
                {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}
            )
            origins.append(example.get("origin") or "kept")
    if not rows:
        remedy = "Raise engine.max_model_len or sft.max_length."
        raise DataError(
            f"{job.examples}: no example of at most {limit} tokens among {len(table)}. {remedy}"
        )
    return rows, origins, len(table) - len(rows)


def build_trainer(job: SftJob, checkpoint: Checkpoint, rows: list[dict[str, list[int]]]) -> Any:
    """TRL's trainer on the tokenised rows.

    Raises:
        RecipeError: SFTConfig or LoraConfig refuses a value.
    """
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from ouroloop.loop.engines.transformers_local import load_codec

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                tell(done=state.global_step, total=state.max_steps)

    check_settings(job.sft, job.peft)
    try:
        config = SFTConfig(**settings_for(job, on_gpu=torch.cuda.is_available()))
        set_seed(job.seed % 2**32)
        model, adapter = load_trainable(job, checkpoint)
        return SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_codec(checkpoint).tokenizer,
            peft_config=adapter,
            callbacks=[Progress()],
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"sft or peft: {error}") from error


def load_trainable(job: SftJob, checkpoint: Checkpoint) -> tuple[Any, Any]:
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


def _complete_folder(folder: Path, init: Checkpoint) -> None:
    """Make the saved folder a checkpoint like `init`.

    The same tokenizer files and config, no pickles, no sampling defaults.

    Files are copied, not saved again: an engine then sees the same model with other weights, and
    may swap them.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)
    for pattern in TOKENIZER_PATTERNS:
        for file in init.tokenizer.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    if (folder / "adapter_config.json").exists():
        return
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = json.loads((init.weights / "config.json").read_text(encoding="utf-8"))
    config |= {key: saved[key] for key in ("dtype", "transformers_version") if key in saved}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    path = init.weights / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = {
        key: generation[key]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        if key in generation
    }
    (folder / "generation_config.json").write_text(
        json.dumps(kept, indent=2) + "\n", encoding="utf-8"
    )


def _canary_with_movement(job: SftJob, folder: Path) -> canary.Canary:
    """The new checkpoint's canary, compared with that of the checkpoint it started from."""
    made = replace(canary.make(folder, job.dtype), checkpoint="/".join(job.output.parts[-2:]))
    before: canary.Canary | None = None
    for path in filter(None, (job.init_canary, job.init / canary.FILE_NAME)):
        if path.exists() and before is None:
            found = canary.read(path)
            same = [p.prompt_token_ids for p in found.prompts] == [
                p.prompt_token_ids for p in made.prompts
            ]
            before = found if same and found.dtype == job.dtype else None
    return canary.with_movement(made, before or canary.make(job.init, job.dtype))


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
