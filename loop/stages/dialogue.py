"""Conversations between a human and an assistant, with critiques and revisions of the last answer.

One representation for two renderings: the published text (`Human:`, `Assistant:`,
`CritiqueRequest:` and so on, a blank line before each), and turns for a chat template.

Source: Bai et al. 2212.08073, section 3.1, and the prompt files published with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ouroloop.evals.tasks import Problem
from ouroloop.loop.records import Message, Prompt
from ouroloop.monitors.fence import well_formed


class Speaker(StrEnum):
    """Who speaks, by the label that the published form puts before it."""

    HUMAN = "Human"
    ASSISTANT = "Assistant"
    CRITIQUE_REQUEST = "CritiqueRequest"
    CRITIQUE = "Critique"
    REVISION_REQUEST = "RevisionRequest"
    REVISION = "Revision"


class Said(NamedTuple):
    """One contribution to a dialogue."""

    speaker: Speaker
    text: str


Dialogue = tuple[Said, ...]

# What the model itself says; the rest is said to it.
OF_THE_MODEL = frozenset({Speaker.ASSISTANT, Speaker.CRITIQUE, Speaker.REVISION})
_BY_ROLE = {"user": Speaker.HUMAN, "assistant": Speaker.ASSISTANT}
_LABELS = "|".join(Speaker)
# A label counts at the beginning of a paragraph only.
_BEGINNING = re.compile(rf"(?:^|\n\n)({_LABELS}):")
_WITHIN = re.compile(rf"\n{{2,}}(?=(?:{_LABELS}):)")
_END = re.compile(rf"(?:^|\n\n)(?:{_LABELS}):$")
# What goes on as somebody else often leaves the blank line out, or begins so.
_NEXT = re.compile(rf"^[ \t]*(?:{_LABELS}):", re.MULTILINE)


def conversation(problem: Problem) -> Dialogue:
    """What a problem's answer answers: its turns, or its question as the only one."""
    turns = problem.messages or (("user", problem.question),)
    return tuple(Said(_BY_ROLE[role], text) for role, text in turns)


def read_dialogue(text: str) -> Dialogue:
    """A dialogue in the published form; labels without a text, as at the end, are left out.

    Raises:
        ValueError: the text does not begin with a label.
    """
    before, *pieces = _BEGINNING.split(text)
    if before.strip() or not pieces:
        raise ValueError(f"begins with {text.strip()[:40]!r}; expected a label, such as 'Human:'")
    speakers, texts = pieces[::2], pieces[1::2]
    found = zip(speakers, texts, strict=True)
    return tuple(
        Said(Speaker(speaker), well_formed(said.strip())) for speaker, said in found if said.strip()
    )


def as_text(dialogue: Iterable[Said], next_speaker: Speaker) -> str:
    """The published form, up to where `next_speaker` goes on.

    A label inside somebody's text ends no contribution: the blank line before it is taken out.
    """
    said = [f"\n\n{speaker}: {_WITHIN.sub(chr(10), text.strip())}" for speaker, text in dialogue]
    return "".join([*said, f"\n\n{next_speaker}:"])


def as_turns(dialogue: Iterable[Said]) -> list[Message]:
    """Turns for a chat template; what follows one another in one role is one turn.

    Many templates refuse two turns of a role in a row.
    """
    turns: list[dict[str, str]] = []
    for speaker, text in dialogue:
        role = "assistant" if speaker in OF_THE_MODEL else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{text}"
        else:
            turns.append({"role": role, "content": text})
    return list(turns)


def ends_with_label(prompt: Prompt) -> bool:
    """Whether a prompt ends with a label, as plain text or in its last turn of a chat.

    What a model adds to such a text ends where it goes on as somebody else.
    """
    text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
    # Most prompts are long and end otherwise: their end is looked at first.
    return ":" in text[-2:] and bool(_END.search(text))


def until_next_speaker(text: str) -> str:
    """What a model wrote as one speaker, without the dialogue that it went on to make up."""
    found = _NEXT.search(text)
    return text[: found.start()].rstrip("\n") if found else text
