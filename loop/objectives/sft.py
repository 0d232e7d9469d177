"""Supervised fine-tuning on the kept samples with TRL's SFTTrainer.

The training set is examples.parquet: token ids of prompts (masked) and completions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.engines.checkpoint import Checkpoint
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.objectives.base import Prepared
from ouroloop.loop.objectives.child import progress_reporter
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.saving import check_ids, load_trainable
from ouroloop.loop.objectives.settings import on_one_gpu
from ouroloop.loop.objectives.sft_settings import check_settings, settings_for


@dataclass(frozen=True)
class Sft:
    """The built-in objective. The recipe's `sft:` holds SFTConfig's names, `peft:` LoraConfig's."""

    def check(self, settings: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
        """Refuse names that SFTConfig or LoraConfig do not have. See `Objective.check`."""
        check_settings(settings, peft)

    def prepare(self, job: TrainingJob, checkpoint: Checkpoint) -> Prepared:
        """SFTTrainer on the round's examples. See `Objective.prepare`."""
        rows, origins, num_refused = read_rows(job, checkpoint)
        return Prepared(
            trainer=build_trainer(job, checkpoint, rows),
            num_examples=len(rows),
            num_tokens=sum(len(row["input_ids"]) for row in rows),
            num_refused=num_refused,
            by_origin=dict(Counter(origins)),
        )


def read_rows(
    job: TrainingJob, checkpoint: Checkpoint
) -> tuple[list[dict[str, list[int]]], list[str], int]:
    """The examples as TRL takes them, their origins, and how many were too long.

    Prompts are masked (label -100); what is too long is left out.

    Raises:
        DataError: no examples, a completion without a stop token at its end, or token ids that
            this tokenizer does not have.
    """
    import pyarrow.parquet as pq

    from ouroloop.loop.engines.transformers_local import load_codec

    codec = load_codec(checkpoint)
    # Never longer than what the engine could have sampled.
    limit = min(job.max_length, job.settings.get("max_length") or job.max_length)
    table = pq.read_table(job.examples).to_pylist()
    rows: list[dict[str, list[int]]] = []
    origins: list[str] = []
    for i, example in enumerate(table):
        where = f"{job.examples} row {i}"
        prompt, completion = (
            list(example["prompt_token_ids"]),
            list(example["completion_token_ids"]),
        )
        check_ids(where, prompt, completion, codec)
        if len(prompt) + len(completion) <= limit:
            # -100 is the label that the loss ignores: the prompt is read, not learnt.
            labels = [-100] * len(prompt) + completion
            # But for assistant turns of a demonstration that are to be learnt as well.
            for place in example.get("learnt_prompt_positions") or ():
                labels[place] = prompt[place]
            rows.append({"input_ids": prompt + completion, "labels": labels})
            origins.append(example.get("origin") or "kept")
    if not rows:
        remedy = "Raise engine.max_model_len or sft.max_length."
        raise DataError(
            f"{job.examples}: no example of at most {limit} tokens among {len(table)}. {remedy}"
        )
    return rows, origins, len(table) - len(rows)


def build_trainer(
    job: TrainingJob, checkpoint: Checkpoint, rows: list[dict[str, list[int]]]
) -> Any:
    """TRL's trainer on the tokenised rows.

    Raises:
        RecipeError: SFTConfig or LoraConfig refuses a value.
    """
    import torch
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from ouroloop.loop.engines.transformers_local import load_codec
    from ouroloop.loop.objectives import batches
    from ouroloop.loop.objectives.label_logits import model_within, skip_unlabelled

    check_settings(job.settings, job.peft)
    try:
        config = on_one_gpu(SFTConfig(**settings_for(job, on_gpu=torch.cuda.is_available())))
        # Before the model is made: LoRA's matrices are drawn at random.
        set_seed(job.seed % 2**32)
        model, adapter = load_trainable(job, checkpoint)
        # skip_prepare_dataset (sft_settings) keeps TRL from tokenising, packing or cutting.
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_codec(checkpoint).tokenizer,
            peft_config=adapter,
            callbacks=[progress_reporter()],
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"sft or peft: {error}") from error
    skip_unlabelled(model_within(trainer.model))
    batches.arrange(trainer, rows, job)
    return trainer
