"""What a checkpoint's chat template writes before a model's answer, and which turns it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def refused_turns(
    folder: Path, chat_template_kwargs: Mapping[str, Any], roles_S: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], str]:
    """Of sequences of roles those that the template raises on, each with its reason.

    Some templates know no system turn, and many want the user to begin.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    refused = {}
    for roles in roles_S:
        turns = [{"role": role, "content": "a"} for role in roles]
        try:
            tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **chat_template_kwargs
            )
        except Exception as error:  # whatever a template of somebody's raises
            refused[roles] = str(error).split("\n")[0]
    return refused
