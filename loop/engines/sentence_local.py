"""Sentence encoders from a folder: a transformer whose hidden states are pooled to one vector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from ouroloop.loop.errors import CheckpointError

# Texts at once: padded to the longest, so that many would mostly be padding.
BATCH = 32
# Above any sentence encoder's own limit, where its folder names none.
MAX_TOKENS = 512


class SentenceEncoder:
    """Texts to vectors of length one; the weights are read at the first text.

    Source of the pooling: Sentence-BERT, Reimers & Gurevych 2019, arXiv 1908.10084. On the CPU and
    in single precision, so that the same text has the same vector on every machine and in every
    round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _parts(self) -> tuple[Any, Any, bool, int]:
        """(tokenizer, model, whether the first token alone is taken, most tokens)."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            self.folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
        named = _read(self.folder / "sentence_bert_config.json").get("max_seq_length")
        room = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
        return tokenizer, model, _takes_first(self.folder), min(named or MAX_TOKENS, room)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(N,) texts to (N, D) vectors."""
        tokenizer, model, takes_first, most = self._parts
        # Texts of one length together: little padding, and the order is put back at the end.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.zeros((len(texts), model.config.hidden_size))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=most,
                return_tensors="pt",
            )
            with torch.no_grad():
                hidden = model(**batch).last_hidden_state
            if takes_first:
                pooled = hidden[:, 0]
            else:
                mask = batch["attention_mask"].unsqueeze(-1)
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


def _takes_first(folder: Path) -> bool:
    """Whether the folder asks for the first token's state instead of the mean over all tokens.

    Raises:
        CheckpointError: it asks for something else.
    """
    pooling = _read(folder / "1_Pooling" / "config.json")
    asked = {name for name, is_on in pooling.items() if is_on is True and "pooling_mode" in name}
    if asked <= {"pooling_mode_mean_tokens"}:
        return False
    if asked == {"pooling_mode_cls_token"}:
        return True
    raise CheckpointError(
        f"{folder}: pools by {', '.join(sorted(asked))}; expected the mean over all tokens or the"
        " first token. Take another sentence encoder, such as all-minilm-l6-v2."
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of the folder; nothing where it has none."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
