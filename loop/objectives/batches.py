"""How the texts of a batch share a tensor: padded to one length, or one after the other in a row.

A row of all texts has no padding, but an attention as wide as the row. Which is cheaper depends on
the lengths. It is exact where a model keeps texts apart by their positions, which is tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ouroloop.loop.automatic import SMALL_PARAMETERS
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.job import TrainingJob

Text = dict[str, list[int]]


@dataclass(frozen=True)
class CheaperBatch:
    """Collates the texts of a batch in the form that needs fewer multiplications.

    num_weights: of all layers but embedding and output, which do not depend on the form much.
    width: sum of the layers' hidden sizes, the cost of a pair of positions in attention.
    """

    padded: Any
    row: Any
    num_weights: int
    width: int

    def __call__(self, texts: Sequence[Text]) -> Any:
        """One batch, as TRL's collators make it."""
        lengths = [len(text["input_ids"]) for text in texts]
        longest, total = max(lengths), sum(lengths)
        padded = self._cost(len(lengths) * longest, len(lengths) * longest**2)
        row = self._cost(total, total**2)
        return self.row(texts) if row < padded else self.padded(texts)

    def _cost(self, positions: int, pairs: int) -> int:
        # Per position two operations a weight; per pair of positions two products of 2 * width.
        return 2 * positions * self.num_weights + 4 * pairs * self.width


def arrange(trainer: Any, rows: Sequence[Text], job: TrainingJob) -> None:
    """Give `trainer` the cheaper batches where that is exact.

    On a GPU, for a small model, and where the recipe says which form it wants, TRL's collator
    stays; `padding_free: true` is checked.

    Raises:
        RecipeError: padding_free for a model that lets texts in one row see each other.
    """
    is_on_cpu = trainer.model.device.type == "cpu"
    num_weights = trainer.model.num_parameters(exclude_embeddings=True)
    if trainer.padding_free:
        together, apart = losses_of_two(trainer, trainer.data_collator, rows)
        if not _is_same(trainer, together, apart):
            raise RecipeError(
                f"sft.padding_free: in one row two texts have a loss of {together:.4f}, each alone"
                f" {apart:.4f}: this model lets them see each other. Leave it out; rows of like"
                " length share a batch anyway."
            )
    elif is_on_cpu and "padding_free" not in job.settings and num_weights > SMALL_PARAMETERS:
        padded = trainer.data_collator
        row = type(padded)(pad_token_id=padded.pad_token_id, padding_free=True)
        if _is_same(trainer, *losses_of_two(trainer, row, rows)):
            config = trainer.model.config.get_text_config()
            width = config.num_hidden_layers * config.hidden_size
            trainer.data_collator = CheaperBatch(padded, row, num_weights, width)


def losses_of_two(trainer: Any, collate: Any, rows: Sequence[Text]) -> tuple[float, float]:
    """(the loss of the two shortest texts in one batch, the sum of their own), in nats.

    Attention is kept apart by positions. A model that takes no notice of them (a state-space
    layer, an attention of its own) would read each text as the next one's beginning.
    """
    pair = sorted(rows, key=lambda row: len(row["input_ids"]))[:2]
    model = trainer.model

    def loss(texts: Sequence[Text]) -> float:
        inputs = {
            key: value.to(model.device) if torch.is_tensor(value) else value
            for key, value in collate(texts).items()
        }
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        return -float(outputs.log_probs.sum())

    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = loss(pair), sum(loss([row]) for row in pair)
    model.train(was_training)
    return found


def _is_same(trainer: Any, together: float, apart: float) -> bool:
    # Rounding depends on a batch's shape: far less than this where texts are kept apart.
    tolerance = 0.02 if trainer.model.dtype == torch.bfloat16 else 1e-3
    return abs(together - apart) <= tolerance * max(abs(apart), 1.0)
