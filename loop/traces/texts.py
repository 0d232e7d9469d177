"""Prompts and completions in other frameworks' records: plain texts, or conversations."""

from __future__ import annotations

import hashlib
from typing import Any


def asked(prompt: Any) -> dict[str, Any]:
    """The problem's id and question; prompts without an id are known by their text.

    Raises:
        TypeError: as `text_of`.
    """
    text = text_of(prompt)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"problem": f"prompt-{digest[:16]}", "question": text}


def exchange(turns: list[Any]) -> tuple[Any, str]:
    """What was asked and what was answered, of all turns of one sample.

    An environment's word on the answer, which comes after it, is neither.

    Args:
        turns: texts, or turns with a role; of several answers all count, of texts the last one.

    Raises:
        TypeError: as `text_of`.
    """
    if is_chat(turns):
        answers = [i for i, turn in enumerate(turns) if turn.get("role") == "assistant"]
        first = answers[0] if answers else len(turns)
        return turns[:first], "\n".join(text_of(turns[i]["content"]) for i in answers)
    texts = list(map(text_of, turns))
    # Without roles it is known by how all environments of NeMo-RL begin.
    if len(texts) > 2 and texts[-1].startswith("Environment:"):
        texts.pop()
    return "\n".join(texts[:-1]), texts[-1]


def text_of(value: Any) -> str:
    """A text, or the turns of a conversation, the system's first.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, str):
        return value
    if is_chat(value):
        # A lone turn is its content: "assistant:" before every answer would be no part of it.
        if len(value) == 1:
            return text_of(value[0]["content"])
        return "\n".join(f"{turn.get('role', '')}: {text_of(turn['content'])}" for turn in value)
    if isinstance(value, list):
        return "".join(text_of(part.get("text", "")) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"expected a text or a conversation, got {type(value).__name__}")


def is_chat(value: Any) -> bool:
    """Whether it is a list of turns, each with its content."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and "content" in turn for turn in value)
    )
