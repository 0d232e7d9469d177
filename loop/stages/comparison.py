"""Which of two answers fulfils a principle better? The published prompt and its files.

RLMadisonInstructions.json: ["...Options:", ...]. RLMadisonFewShotPrompts.json: [{"prompt":
dialogue, "corrects": [...], "incorrects": [...]}, ...]. The feedback model is asked for the text
after `The answer is:`, which is one of `CHOICES`; the preference is what it makes of their
probabilities.

Source: Bai et al. 2212.08073, section 4.1 and appendix C.2.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DataError
from ouroloop.loop.stages.constitution import read_published
from ouroloop.loop.stages.dialogue import Dialogue, Speaker, as_text, read_dialogue
from ouroloop.monitors.fence import well_formed

CHOICES = (" (A)", " (B)")
"""What the model may answer. With its logarithm of each one's probability, the probability that the
first answer is the better one is 1 / (1 + exp(log p(B) - log p(A)))."""

PRINCIPLES_FORMAT = '["Please choose ... Options:", ...]'
SHOTS_FORMAT = (
    '[{"prompt": "\\n\\nHuman: ...\\n\\nAssistant:", "corrects": ["..."], "incorrects": ["..."]},'
    " ...]"
)
_OPENING = "Consider the following conversation between a human and an assistant:"


@dataclass(frozen=True)
class ComparisonShot:
    """A worked comparison: of two answers to a conversation, the better one."""

    conversation: Dialogue
    better: str
    worse: str


def comparison_principles(path: Path) -> tuple[str, ...]:
    """Read the principles by which answers are compared; "Options:" at their ends is stripped.

    Raises:
        DataError: missing file, not JSON, or not a list of texts.
    """
    raw = read_published(path, "comparison principles", PRINCIPLES_FORMAT)
    is_list = isinstance(raw, list) and bool(raw)
    if not is_list or not all(isinstance(text, str) and _bare(text) for text in raw):
        raise DataError(
            f"{path}: got {str(raw)[:60]!r}; expected a list of principles, {PRINCIPLES_FORMAT}."
        )
    return tuple(_bare(text) for text in raw)


def comparison_shots(path: Path) -> tuple[ComparisonShot, ...]:
    """Read worked comparisons: every better answer of an entry beside every worse one.

    Raises:
        DataError: missing file, not JSON, or an entry of another form; the message names it.
    """
    raw = read_published(path, "comparison shots", SHOTS_FORMAT)
    if not isinstance(raw, list) or not raw:
        raise DataError(f"{path}: got {str(raw)[:60]!r}; expected {SHOTS_FORMAT}.")
    shots = []
    for number, entry in enumerate(raw, start=1):
        where = f"{path}, entry {number}"
        fields = entry if isinstance(entry, dict) else {}
        better, worse = (_texts(fields.get(name)) for name in ("corrects", "incorrects"))
        if not isinstance(fields.get("prompt"), str) or not better or not worse:
            raise DataError(f"{where}: got {str(entry)[:60]!r}; expected {SHOTS_FORMAT}.")
        try:
            conversation = read_dialogue(fields["prompt"])
        except ValueError as error:
            raise DataError(f"{where}: {error}.") from None
        shots += [ComparisonShot(conversation, *pair) for pair in product(better, worse)]
    return tuple(shots)


def comparison_prompt(
    conversation: Dialogue,
    principle: str,
    first: str,
    second: str,
    shots: Sequence[ComparisonShot] = (),
    seed: int = 0,
) -> str:
    """The published question, which (A) or (B) answers.

    Args:
        conversation: what both texts answer (`dialogue.conversation` of a problem).
        principle: one of `comparison_principles`; the shots are asked by the same one.
        first: (A).
        second: (B).
        shots: worked comparisons that are put before it.
        seed: of which answer of each shot is (A). Were it always the better one, the model would
            learn the letter.
    """
    rng = random.Random(seed)
    pieces = []
    for shot in shots:
        if rng.random() < 0.5:
            asked, choice = (shot.better, shot.worse), CHOICES[0]
        else:
            asked, choice = (shot.worse, shot.better), CHOICES[1]
        pieces.append(_question(shot.conversation, principle, *asked) + choice)
    pieces.append(_question(conversation, principle, first, second))
    return "\n\n".join(pieces)


def _question(conversation: Dialogue, principle: str, first: str, second: str) -> str:
    # The answers follow as options, so the label before them is left out.
    said = as_text(conversation, Speaker.ASSISTANT).removesuffix(f"\n\n{Speaker.ASSISTANT}:")
    options = f"Options:\n(A) {first.strip()}\n(B) {second.strip()}\nThe answer is:"
    return f"{_OPENING}{said}\n\n{principle}\n{options}"


def _bare(text: str) -> str:
    return well_formed(text.strip().removesuffix("Options:").strip())


def _texts(value: Any) -> list[str]:
    """A list of texts; else none."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return []
    return [well_formed(text.strip()) for text in value if text.strip()]
