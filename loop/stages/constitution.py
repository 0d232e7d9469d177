"""Principles that critiques appeal to, in the published JSON format.

{name: {"prompt": [critique request, ...], "edit_request": revision request}}
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DataError


@dataclass(frozen=True)
class Principle:
    """What a critique should look for, and what a revision should then do."""

    name: str
    critique_request: str
    revision_request: str


def load_constitution(path: Path) -> tuple[Principle, ...]:
    """Read a constitution.

    The published prefixes ("CritiqueRequest:", "RevisionRequest:") and suffixes ("Critique:",
    "Revision:") are stripped.

    Raises:
        DataError: missing file, not JSON, or not of the format.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such constitution (refine.constitution).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not JSON: {error}. Expected {{name: {{prompt: [...], edit_request: ...}}}}."
        ) from None
    principles = []
    if not isinstance(raw, dict):
        raw = {}
    for name, entry in raw.items():
        requests = _requests(entry)
        if not requests:
            raise DataError(
                f"{path}: principle {name!r} needs `prompt` (one text or a list of texts) and"
                " `edit_request` (a text)."
            )
        edit = _bare(entry["edit_request"], "RevisionRequest:", "Revision:")
        principles += [
            Principle(str(name), _bare(request, "CritiqueRequest:", "Critique:"), edit)
            for request in requests
        ]
    if not principles:
        raise DataError(
            f"{path}: no principle found. Expected {{name: {{prompt: [...], edit_request: ...}}}}."
        )
    return tuple(principles)


def _requests(entry: Any) -> list[str]:
    """The critique requests of a well-formed entry; else none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("edit_request"), str):
        return []
    requests = entry.get("prompt")
    if isinstance(requests, str):
        return [requests]
    if not isinstance(requests, list) or not all(isinstance(r, str) for r in requests):
        return []
    return requests


def draw(principles: tuple[Principle, ...], seed: int) -> Principle | None:
    """One principle at random, the same for the same seed; None without a constitution."""
    if not principles:
        return None
    return random.Random(seed).choice(principles)


def _bare(text: str, prefix: str, suffix: str) -> str:
    return text.strip().removeprefix(prefix).removesuffix(suffix).strip()
