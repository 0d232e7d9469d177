"""A model's shape from its config.json alone: for a model whose weights are not here.

Of decoders built as Llama's and Qwen2's (Touvron et al. 2302.13971): gated feed-forward layers,
grouped keys and values, root-mean-square norms without bias.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import UserError
from ouroloop.loop.models.shape import Matrix, Shape

NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
)


def read_config(path: Path) -> Shape:
    """The shape that a config.json describes.

    Raises:
        UserError: it cannot be read, or lacks a size.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return shape_of(config)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--model-config {path}: {error!r}. Expected a model's config.json with"
            f" {', '.join(NEEDED)}."
        ) from error


def shape_of(config: dict[str, Any]) -> Shape:
    """The shape; its number of weights is that of the published model."""
    hidden, inner, layers, heads, vocabulary = (int(config[name]) for name in NEEDED)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_size = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head_size, kv_heads * head_size
    sizes = {
        "q_proj": (queries, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }
    linear = tuple(
        Matrix(f"model.layers.{layer}.{name}", *size)
        for layer in range(layers)
        for name, size in sizes.items()
    )
    # Qwen2 adds a bias to queries, keys and values; the other matrices have none.
    biased = config.get("model_type") == "qwen2" or bool(config.get("attention_bias"))
    biases = layers * (queries + 2 * keys) if biased else 0
    # Two norms a layer, and one at the end.
    norms = (2 * layers + 1) * hidden
    # Tied, the embedding is the output layer too.
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    matrices = sum(matrix.rows * matrix.columns for matrix in linear)
    return Shape(
        architecture=(config.get("architectures") or [str(config.get("model_type"))])[0],
        num_parameters=matrices + biases + norms + embeddings,
        stored="BF16",
        positions=config.get("max_position_embeddings"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=vocabulary,
        num_tokens=vocabulary,
        linear=linear,
    )
