"""Checkpoint folders made of their small files alone: enough for whoever reads no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_fake_checkpoint(folder: Path, hidden: int = 8, stop_token: Any = "<eos>") -> Path:
    """config.json, an empty safetensors file, and a tokenizer of one letter."""
    folder.mkdir(parents=True)
    write(
        folder / "config.json",
        {"model_type": "llama", "hidden_size": hidden, "vocab_size": 2, "dtype": "float32"},
    )
    write(
        folder / "tokenizer.json",
        {"added_tokens": [{"id": 0, "content": "<eos>"}], "model": {"vocab": {"a": 1}}},
    )
    write(folder / "tokenizer_config.json", {"eos_token": stop_token})
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
