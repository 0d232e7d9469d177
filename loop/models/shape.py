"""What a checkpoint's config and file headers say about its size, read without torch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.engines.checkpoint import Checkpoint, tensor_types

# The same number under the names that families of models give it in config.json.
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
HEADS = ("num_attention_heads", "n_head", "n_heads")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model")
# Rotary embeddings of these kinds reach further than `max_position_embeddings` by their factor;
# others (llama3, longrope) state the whole length there.
STRETCHED = ("yarn", "linear", "dynamic")
# Not adapted by LoRA's "all-linear": the embedding and the output layer.
OUTSIDE_LAYERS = ("embed", "lm_head", "wte", "wpe")


@dataclass(frozen=True)
class Matrix:
    """A weight matrix of a linear layer. name: of its module, the last part as in `q_proj`."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Shape:
    """A model's sizes; None where its config does not say.

    Attributes:
        architecture: class that transformers loads.
        num_parameters: of the model without adapter; tied ones count once.
        stored: the files' most common type, as they spell it: F32, BF16, ...
        positions: tokens that a text may have.
        head_size: numbers in a head.
        vocabulary: rows of the embedding.
        num_tokens: largest token id of the tokenizer, plus one.
        linear: matrices of the layers' linear parts.
    """

    architecture: str
    num_parameters: int
    stored: str
    positions: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    head_size: int | None
    vocabulary: int | None
    num_tokens: int | None
    linear: tuple[Matrix, ...]

    def cache_bytes(self, tokens: int, bytes_per_number: int) -> int:
        """Keys and values of so many tokens; 0 where the config does not say."""
        if not (self.layers and self.kv_heads and self.head_size):
            return 0
        # One key and one value for each.
        return 2 * self.layers * self.kv_heads * self.head_size * tokens * bytes_per_number


def read_shape(checkpoint: Checkpoint) -> Shape:
    """The shape of a checkpoint, an adapter's being that of its model.

    Raises:
        CheckpointError: a safetensors file is cut off.
    """
    config = json.loads((checkpoint.weights / "config.json").read_text(encoding="utf-8"))
    # Models of several kinds of input keep the numbers of their language part in a section.
    text = {**config, **(config.get("text_config") or {})}
    tensors = tensor_types(checkpoint.weights)
    sizes: Counter[str] = Counter()
    for kind, dimensions in tensors.values():
        sizes[kind] += math.prod(dimensions)
    heads, hidden = _first(text, HEADS), _first(text, HIDDEN)
    head_size = text.get("head_dim")
    if not head_size and heads and hidden:
        head_size = hidden // heads
    return Shape(
        architecture=(config.get("architectures") or [str(config.get("model_type"))])[0],
        num_parameters=sum(sizes.values()),
        stored=max(sizes, key=sizes.__getitem__, default=""),
        positions=_positions(text),
        layers=_first(text, LAYERS),
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_size=head_size,
        vocabulary=text.get("vocab_size"),
        num_tokens=_num_tokens(checkpoint),
        linear=tuple(
            Matrix(name.removesuffix(".weight"), *dimensions)
            for name, (_, dimensions) in tensors.items()
            if len(dimensions) == 2 and not any(part in name for part in OUTSIDE_LAYERS)
        ),
    )


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)


def _positions(config: Mapping[str, Any]) -> int | None:
    """The longest text, stretched rotary embeddings counted in (as vLLM counts them)."""
    stated = _first(config, POSITIONS)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    if stated is None or kind not in STRETCHED:
        return stated
    trained = rope.get("original_max_position_embeddings") if kind == "yarn" else None
    # A yarn config may state the stretched length already: never less than what it states.
    return max(stated, int((trained or stated) * float(rope.get("factor") or 1)))


def _num_tokens(checkpoint: Checkpoint) -> int | None:
    try:
        fast = json.loads((checkpoint.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary = fast["model"]["vocab"]
        added = [entry["id"] for entry in fast.get("added_tokens", [])]
        # Unigram models list their pieces, others map them to ids.
        listed = isinstance(vocabulary, list)
        ids = range(len(vocabulary)) if listed else vocabulary.values()
        return 1 + int(max([*ids, *added]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
