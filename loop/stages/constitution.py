"""Principles that critiques appeal to, and worked critiques of them, in the published JSON formats.

CritiqueRevisionInstructions.json: {name: {"prompt": [critique request, ...], "edit_request":
revision request}}. CritiqueRevisionFewShotPrompts.json: [dialogue, ...]. The principles by which
answers are compared are in `comparison.py`.

Source: Bai et al. 2212.08073, section 3 and appendix C.1.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DataError
from ouroloop.loop.records import Prompt
from ouroloop.loop.stages.dialogue import Dialogue, Speaker, read_dialogue
from ouroloop.monitors.fence import well_formed

PRINCIPLES_FORMAT = "{name: {prompt: [...], edit_request: ...}}"
SHOTS_FORMAT = (
    '["\\n\\nHuman: ...\\n\\nAssistant: ...\\n\\nCritiqueRequest: ...\\n\\nCritique: ...'
    '\\n\\nRevisionRequest: ...\\n\\nRevision: ...", ...]'
)


@dataclass(frozen=True)
class Principle:
    """What a critique should look for, and what a revision should then do."""

    name: str
    critique_request: str
    revision_request: str


@dataclass
class Shots:
    """Worked dialogues that are put before critique and revision requests.

    Where all of them are too long for the engine's context, the first ones are left out, each
    whole. Since the last `counted`: `asked` requests, `cut` of which lost some; `fewest` were left.
    """

    dialogues: tuple[Dialogue, ...] = ()
    asked: int = 0
    cut: int = 0
    fewest: int = field(init=False)

    def __post_init__(self) -> None:
        self.fewest = len(self.dialogues)

    def tried(self, make: Callable[[tuple[Dialogue, ...]], Prompt]) -> Iterator[Prompt]:
        """The prompt with all of them, with all but the first, and so on to none.

        The next one is asked for only where the one before it was too long.
        """
        num = len(self.dialogues)
        for start in range(num + 1):
            if start == 0:
                self.asked += 1
            elif start == 1:
                self.cut += 1
            self.fewest = min(self.fewest, num - start)
            yield make(self.dialogues[start:])

    def counted(self) -> Iterator[dict[str, int]]:
        """The counts, where some request lost shots; begins to count anew."""
        if self.cut:
            yield {
                "requests": self.asked,
                "cut": self.cut,
                "fewest": self.fewest,
                "of": len(self.dialogues),
            }
        self.asked = self.cut = 0
        self.fewest = len(self.dialogues)


def load_constitution(path: Path) -> tuple[Principle, ...]:
    """Read a constitution.

    The published prefixes ("CritiqueRequest:", "RevisionRequest:") and suffixes ("Critique:",
    "Revision:") are stripped.

    Raises:
        DataError: missing file, not JSON, or not of the format.
    """
    raw = read_published(path, "refine.constitution", PRINCIPLES_FORMAT)
    principles = []
    if not isinstance(raw, dict):
        raw = {}
    for name, entry in raw.items():
        requests = _requests(entry)
        if not requests:
            raise DataError(
                f"{path}: principle {name!r} needs `prompt` (one text or a list of texts) and"
                " `edit_request` (a text), none of them blank."
            )
        edit = _bare_edit(entry)
        principles += [Principle(str(name), request, edit) for request in requests]
    if not principles:
        raise DataError(f"{path}: no principle found. Expected {PRINCIPLES_FORMAT}.")
    return tuple(principles)


def load_critique_shots(path: Path) -> tuple[Dialogue, ...]:
    """Read worked dialogues that are put before critique and revision requests.

    Each holds a conversation, a critique request, the critique, a revision request and the
    revision.

    Raises:
        DataError: missing file, not JSON, or not of the format; the message names the dialogue.
    """
    raw = read_published(path, "refine.shots", SHOTS_FORMAT)
    if not isinstance(raw, list) or not raw or not all(isinstance(text, str) for text in raw):
        raise DataError(
            f"{path}: got {str(raw)[:60]!r}; expected a list of dialogues, {SHOTS_FORMAT}."
        )
    shots = []
    # What must follow the conversation, in this order.
    asked = [
        Speaker.ASSISTANT,
        Speaker.CRITIQUE_REQUEST,
        Speaker.CRITIQUE,
        Speaker.REVISION_REQUEST,
        Speaker.REVISION,
    ]
    for number, text in enumerate(raw, start=1):
        try:
            shot = read_dialogue(text)
        except ValueError as error:
            raise DataError(f"{path}, dialogue {number}: {error}.") from None
        speakers = [speaker for speaker, _ in shot]
        if speakers[-5:] != asked or speakers[0] is not Speaker.HUMAN:
            raise DataError(
                f"{path}, dialogue {number}: got {', '.join(speakers) or 'nothing'}; expected"
                f" Human, ..., {', '.join(asked)}."
            )
        shots.append(shot)
    return tuple(shots)


def read_published(path: Path, key: str, expected: str) -> Any:
    """A JSON file that a recipe key names.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file ({key}); expected JSON of the form {expected}. Paths in a recipe"
            " are relative to the recipe."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); expected {expected}.") from None


def _requests(entry: Any) -> list[str]:
    """The critique requests of a well-formed entry, without their labels; else none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("edit_request"), str):
        return []
    requests = entry.get("prompt")
    if isinstance(requests, str):
        requests = [requests]
    if not isinstance(requests, list) or not all(isinstance(r, str) for r in requests):
        return []
    found = [_bare(request, "CritiqueRequest:", "Critique:") for request in requests]
    # A request that asks nothing would be answered at random, and its answer learnt from.
    return found if all(found) and _bare_edit(entry) else []


def _bare_edit(entry: Mapping[str, Any]) -> str:
    return _bare(entry["edit_request"], "RevisionRequest:", "Revision:")


def draw(principles: tuple[Principle, ...], seed: int) -> Principle | None:
    """One principle at random, the same for the same seed; None without a constitution."""
    if not principles:
        return None
    return random.Random(seed).choice(principles)


def _bare(text: str, prefix: str, suffix: str) -> str:
    return well_formed(text.strip().removeprefix(prefix).removesuffix(suffix).strip())
