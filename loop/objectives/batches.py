"""How the texts of a batch share a tensor: padded to one length, or one after the other in a row.

A row of all texts has no padding. PyTorch's attention would still compare every text with every
other one, only to mask the result, which costs more than the padding. So attention goes through the
row text by text. That is exact where nothing but attention looks at other positions: tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.label_logits import model_within
from ouroloop.loop.recipes.automatic import SMALL_PARAMETERS

Text = dict[str, list[int]]
# The name of `attend_apart` among transformers' kinds of attention. They make no mask for it.
APART = "ouroloop_apart"


def attend_apart(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each text of a row.

    Args:
        module: the attention layer.
        query: [1, heads, positions, head size].
        key: see query.
        value: see query.
        attention_mask: None; padding on the right is hidden by causality.
        cu_seq_lens_q: where the texts begin, and the end of the last; default: one text.
        options: as transformers passes them.

    Returns:
        [1, positions, heads, head size], and no weights.
    """
    if cu_seq_lens_q is None:
        cu_seq_lens_q = torch.tensor([0, query.shape[2]])
    sizes = cu_seq_lens_q.diff().tolist()
    texts = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    found = [sdpa_attention_forward(module, *text, attention_mask, **options) for text in texts]
    return torch.cat([output for output, _ in found], dim=1), None


AttentionInterface.register(APART, attend_apart)


def arrange(trainer: Any, rows: Sequence[Text], job: TrainingJob) -> None:
    """Put the texts of a batch into one row where that is exact and saves time.

    On a GPU, for a small model, and where the recipe says which form it wants, TRL's collator
    stays; `padding_free: true` is checked.

    Raises:
        RecipeError: padding_free for a model that lets texts in one row see each other.
    """
    # Not the model's device: under FSDP and ZeRO-3 it stays on the processor until training begins.
    is_on_cpu = trainer.accelerator.device.type == "cpu"
    num_weights = trainer.model.num_parameters(exclude_embeddings=True)
    if trainer.padding_free:
        pair = _shortest_two(rows)
        together = loss_of(trainer, trainer.data_collator, pair)
        apart = sum(loss_of(trainer, trainer.data_collator, [text]) for text in pair)
        if not _is_same(trainer, together, apart):
            raise RecipeError(
                f"sft.padding_free: in one row two texts have a loss of {together:.4f}, each alone"
                f" {apart:.4f}: this model lets them see each other. Leave it out; rows of like"
                " length share a batch anyway."
            )
    elif is_on_cpu and "padding_free" not in job.settings and num_weights > SMALL_PARAMETERS:
        _try_rows(trainer, rows)


def _try_rows(trainer: Any, rows: Sequence[Text]) -> None:
    """Rows and their attention, unless the model has another attention or mixes texts."""
    model = model_within(trainer.model)
    if model.config._attn_implementation != "sdpa" or has_window(model.config.get_text_config()):
        return
    padded, pair = trainer.data_collator, _shortest_two(rows)
    row = type(padded)(pad_token_id=padded.pad_token_id, padding_free=True)
    expected = loss_of(trainer, padded, pair)
    model.set_attn_implementation(APART)
    if _is_same(trainer, loss_of(trainer, row, pair), expected):
        trainer.data_collator = row
    else:
        model.set_attn_implementation("sdpa")


def has_window(config: Any) -> bool:
    """Whether a layer sees the last positions alone, which a mask would have to say."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) != {"full_attention"}
    return getattr(config, "sliding_window", None) is not None


def loss_of(trainer: Any, collate: Any, texts: Sequence[Text]) -> float:
    """The loss of the texts in one batch, in nats, summed.

    A model that takes no notice of positions (a state-space layer, an attention of its own) reads
    each text of a row as the next one's beginning, which changes the sum.
    """
    model = trainer.model
    inputs = {
        key: value.to(model.device) if torch.is_tensor(value) else value
        for key, value in collate(texts).items()
    }
    was_training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
    model.train(was_training)
    return -float(outputs.log_probs.sum())


def _shortest_two(rows: Sequence[Text]) -> Sequence[Text]:
    return sorted(rows, key=lambda row: len(row["input_ids"]))[:2]


def _is_same(trainer: Any, together: float, apart: float) -> bool:
    # Rounding depends on a batch's shape: far less than this where texts are kept apart.
    tolerance = 0.02 if trainer.model.dtype == torch.bfloat16 else 1e-3
    return abs(together - apart) <= tolerance * max(abs(apart), 1.0)
