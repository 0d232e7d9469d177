"""Where the published principles, dialogues and prompts lie: read, and never committed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from ..real_data import DATA

PUBLISHED = DATA / "constitutional"
RED_TEAM = PUBLISHED / "red_team_prompts.jsonl"
PRINCIPLES = PUBLISHED / "CritiqueRevisionInstructions.json"
SHOTS = PUBLISHED / "CritiqueRevisionFewShotPrompts.json"
COMPARISONS = PUBLISHED / "RLMadisonInstructions.json"
COMPARED = PUBLISHED / "RLMadisonFewShotPrompts.json"
HELPFUL = DATA / "wordproblems" / "asdiv_train.jsonl"
# The principles of which one is drawn for each answer that the judge reads.
JUDGED = ("harmful0", "harmful4", "harmful8")

LAST_TURN = re.compile(
    r"Human:(?P<question>(?:(?!\n\nHuman:).)*?)\n\nAssistant:(?P<draft>(?:(?!\n\nHuman:).)*?)"
    r"\n\nCritiqueRequest:.*?\n\nRevision:(?P<revision>.*?)(?:\n\nHuman:\s*)?$",
    re.DOTALL,
)


class Worked(NamedTuple):
    """A published dialogue's last answer: the draft that its critique faults, and the revision."""

    question: str
    draft: str
    revision: str


def worked() -> list[Worked]:
    """The published dialogues.

    Raises:
        ValueError: a dialogue without a draft and a revision.
    """
    found = []
    for number, dialogue in enumerate(json.loads(SHOTS.read_text(encoding="utf-8"))):
        parts = LAST_TURN.search(dialogue)
        if parts is None:
            raise ValueError(f"{SHOTS}: dialogue {number}: no draft with a critique and a revision")
        found.append(Worked(*(parts[name].strip() for name in Worked._fields)))
    return found


def items(folder: Path) -> Path:
    """Texts of known worth for the judge, made in `folder` once: drafts and revisions.

    Raises:
        ValueError: see `worked`.
    """
    target = folder / "items.jsonl"
    lines = []
    for question, draft, revision in worked():
        for text, approve in ((draft, False), (revision, True)):
            for principle in JUDGED:
                known = {"principle": principle, "approve": approve}
                lines.append(json.dumps({"question": question, "text": text, **known}))
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
