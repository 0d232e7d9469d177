"""What a checkpoint's chat template writes before a model's answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rendered_question(folder: Path, chat_template_kwargs: Mapping[str, Any]) -> str:
    """A short question as the template renders it, up to where the model goes on."""
    # The template itself says what it ends with: which arguments change that is nowhere stated.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}],
        tokenize=False,
        add_generation_prompt=True,
        **chat_template_kwargs,
    )
    return str(rendered)
