"""Direct preference optimisation on the round's pairs with TRL's DPOTrainer.

The training set is pairs.parquet: token ids of a prompt (masked), of the text that is preferred,
and of the one that is not.

Source: Rafailov et al. 2305.18290; as the preference stage of a constitution, Bai et al.
2212.08073, section 4 (which trains a preference model and uses reinforcement learning).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ouroloop.loop.engines.checkpoint import Checkpoint
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.objectives.base import LearnsFrom, Prepared
from ouroloop.loop.objectives.child import progress_reporter
from ouroloop.loop.objectives.dpo_settings import check_settings, settings_for
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.saving import check_ids, load_baseline, load_trainable
from ouroloop.loop.objectives.settings import on_one_gpu

REFERENCES = ("start", "baseline")


@dataclass(frozen=True)
class Dpo:
    """The objective `dpo`. The recipe's `dpo:` holds DPOConfig's names, `peft:` LoraConfig's.

    reference: the model that the trained one is compared with and kept near to (the more, the
    larger `beta`). start: the one that the round's training starts from, blended weights and
    adapter included; baseline: round 0's.
    """

    reference: str = "start"
    learns_from: ClassVar[LearnsFrom] = LearnsFrom.PAIRS

    def check(self, settings: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
        """Refuse an unknown reference, names and values. See `Objective.check`."""
        if self.reference not in REFERENCES:
            raise RecipeError(
                f"objective dpo: reference: got {self.reference!r}; expected one of"
                f" {', '.join(REFERENCES)}: the model that the round's training starts from, or"
                " round 0's."
            )
        check_settings(settings, peft)

    def prepare(self, job: TrainingJob, checkpoint: Checkpoint) -> Prepared:
        """DPOTrainer on the round's pairs. See `Objective.prepare`."""
        self.check(job.settings, job.peft)
        rows, origins, num_refused = read_rows(job, checkpoint)
        return Prepared(
            trainer=self.build_trainer(job, checkpoint, rows),
            num_examples=len(rows),
            num_tokens=sum(_num_tokens(row) for row in rows),
            num_refused=num_refused,
            by_origin=dict(Counter(origins)),
        )

    def build_trainer(
        self, job: TrainingJob, checkpoint: Checkpoint, rows: list[dict[str, Any]]
    ) -> Any:
        """TRL's trainer on the tokenised pairs, the reference's log-probabilities computed.

        Raises:
            RecipeError: DPOConfig or LoraConfig refuses a value.
        """
        import torch
        from datasets import Dataset
        from transformers import set_seed
        from trl import DPOConfig, DPOTrainer

        from ouroloop.loop.engines.transformers_local import load_codec

        class TokenisedTrainer(DPOTrainer):  # type: ignore[misc]
            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                # Unlike SFTTrainer, TRL 1.16's DPOTrainer has no setting that keeps it from
                # tokenising, and from adding an end of its own.
                return dataset

        try:
            config = on_one_gpu(DPOConfig(**settings_for(job, on_gpu=torch.cuda.is_available())))
            # Before the model is made: LoRA's matrices are drawn at random.
            set_seed(job.seed % 2**32)
            model, adapter = load_trainable(job, checkpoint)
            trainer = TokenisedTrainer(
                model=model,
                ref_model=load_baseline(job) if self._needs_baseline(job) else None,
                args=config,
                train_dataset=Dataset.from_list(rows),
                processing_class=load_codec(checkpoint).tokenizer,
                peft_config=adapter,
                callbacks=[progress_reporter()],
            )
        except (ValueError, TypeError, NotImplementedError) as error:
            raise RecipeError(f"dpo or peft: {error}") from error
        _forget_reference(trainer)
        return trainer

    def _needs_baseline(self, job: TrainingJob) -> bool:
        """Whether the reference is another model than the one that training starts from."""
        return self.reference == "baseline" and job.init != job.baseline


def read_rows(
    job: TrainingJob, checkpoint: Checkpoint
) -> tuple[list[dict[str, Any]], list[str], int]:
    """The pairs as TRL's collator takes them, their origins, and how many were too long.

    A row holds the token ids of the prompt and of both texts, and the longer text's `length`, by
    which the trainer batches pairs of like length. TRL masks the prompt.

    Raises:
        DataError: no pairs, a text without a stop token at its end, or token ids that this
            tokenizer does not have.
    """
    import pyarrow.parquet as pq

    from ouroloop.loop.engines.transformers_local import load_codec

    codec = load_codec(checkpoint)
    # Never longer than what the engine could have sampled.
    limit = min(job.max_length, job.settings.get("max_length") or job.max_length)
    table = pq.read_table(job.examples).to_pylist()
    rows: list[dict[str, Any]] = []
    origins: list[str] = []
    for i, pair in enumerate(table):
        prompt = list(pair["prompt_token_ids"])
        chosen, rejected = list(pair["chosen_token_ids"]), list(pair["rejected_token_ids"])
        for name, text in (("chosen", chosen), ("rejected", rejected)):
            check_ids(f"{job.examples} row {i}, {name}", prompt, text, codec)
        length = len(prompt) + max(len(chosen), len(rejected))
        if length <= limit:
            ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            rows.append({**ids, "length": length})
            origins.append(pair["origin"])
    if not rows:
        raise DataError(
            f"{job.examples}: no pair of at most {limit} tokens among {len(table)}. Raise"
            " engine.max_model_len or dpo.max_length."
        )
    return rows, origins, len(table) - len(rows)


def _num_tokens(row: Mapping[str, Any]) -> int:
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def _forget_reference(trainer: Any) -> None:
    """Free the reference: its log-probabilities stand in the trainer's data.

    An adapter that goes on being trained has a frozen copy for a reference, which would otherwise
    be saved with it.
    """
    adapters = getattr(trainer.model, "peft_config", {})
    if "ref" in adapters:
        trainer.model.delete_adapter("ref")
    if trainer.ref_model is not None:
        trainer.ref_model = None
        # The accelerator holds on to every model that it prepared.
        trainer.accelerator.free_memory()
