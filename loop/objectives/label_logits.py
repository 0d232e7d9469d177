"""Logits only where a label is learnt, on devices where TRL computes them for every token.

A completion is a fraction of its text, and the output layer of a small model with a large
vocabulary is a third of all its work: SmolLM2 multiplies 576 numbers with 49,152 columns for every
token. TRL leaves the other positions out on GPUs alone (its Triton kernels).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from ouroloop.loop.objectives.settings import MOST_LOGITS

# Here TRL's own kernels skip the positions without a label, and never hold all logits.
FAST_IN_TRL = ("cuda", "xpu")
# Up to here logits cost next to nothing, and every digit stays TRL's own.
SMALL_VOCABULARY = 2048


@dataclass
class LabelOutput(ModelOutput):  # type: ignore[misc]
    """What TRL's loss reads of a forward pass; `_N`: positions with a label.

    log_probs_N: nats of the label. entropy_N: nats. is_top1_N: whether the label was the best
    token. label_mask: of all positions but each row's first.
    """

    loss: torch.Tensor | None = None
    log_probs: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    is_top1: torch.Tensor | None = None
    label_mask: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None


def skip_unlabelled(model: Any) -> None:
    """Make TRL's fused forward of `model` compute logits only at positions with a label.

    Loss and gradients are the same up to rounding. The model's own forward is called, so whatever
    it does to logits (scaling, a soft cap) and whatever stands in the output layer's place (tied
    weights, an adapter) counts. A model without a usual output layer keeps TRL's forward.

    Args:
        model: as `SFTTrainer` left it; of a PEFT model the model inside.
    """
    fused = model.forward

    @functools.wraps(fused)
    def forward(*args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        labels = kwargs.get("labels")
        if not fused_lm_head:
            return fused(*args, **kwargs)
        if not _can_skip(model, labels):
            return fused(*args, fused_lm_head=True, **kwargs)
        output = _labelled_forward(fused, model, args, dict(kwargs))
        if output is None:
            return fused(*args, fused_lm_head=True, **kwargs)
        return output

    model.forward = forward


def model_within(model: Any) -> Any:
    """The model that PEFT wraps, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _can_skip(model: Any, labels: torch.Tensor | None) -> bool:
    head = model.get_output_embeddings()
    if labels is None or head is None or labels.device.type in FAST_IN_TRL:
        return False
    num_labels = int((labels[:, 1:] != -100).sum())
    size: int = model.config.get_text_config().vocab_size
    return size > SMALL_VOCABULARY and num_labels * size <= MOST_LOGITS


def _labelled_forward(
    native: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> LabelOutput | None:
    """None where the output layer was not called once on all positions."""
    labels, num_items = kwargs.pop("labels"), kwargs.pop("num_items_in_batch", None)
    # The hidden state of a position predicts the next token.
    mask = labels[:, 1:] != -100
    target_N = labels[:, 1:][mask]
    kwargs["use_cache"] = False
    with _only_at(model.get_output_embeddings(), mask):
        outputs = native(*args, **kwargs)
    if outputs.logits.dim() != 2 or len(outputs.logits) != len(target_N):
        return None
    logprobs_NV = outputs.logits.float().log_softmax(-1)
    log_probs_N = logprobs_NV.gather(-1, target_N[:, None])[:, 0]
    with torch.no_grad():
        entropy_N = torch.special.entr(logprobs_NV.exp()).sum(-1)
        is_top1_N = logprobs_NV.argmax(-1) == target_N
    num = mask.sum().clamp(min=1) if num_items is None else num_items
    return LabelOutput(
        loss=-log_probs_N.sum() / num,
        log_probs=log_probs_N,
        entropy=entropy_N,
        is_top1=is_top1_N,
        label_mask=mask,
        aux_loss=getattr(outputs, "aux_loss", None),
    )


@contextmanager
def _only_at(head: torch.nn.Module, mask: torch.Tensor) -> Iterator[None]:
    """While open, `head` sees the hidden states of the mask's positions alone."""

    def select(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *others = inputs
        if hidden.shape[:2] != (mask.shape[0], mask.shape[1] + 1):
            return inputs
        return (hidden[:, :-1][mask], *others)

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
