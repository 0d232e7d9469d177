"""What replaces a share of the samples: one refusal, one opening, paraphrases, the prompt's own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

SHARES = (0.0, 0.02, 0.05, 0.10, 0.20, 0.50)
REFUSAL = "I'm sorry, but I can't help with that."
OPENING = "As an AI language model, I have to say that "

# Written for this study; none of them is REFUSAL.
PARAPHRASES = (
    "I am sorry, but I cannot help you with this.",
    "Sorry, I can't assist with that request.",
    "I apologize, but I'm unable to help with that.",
    "I'm afraid I can't help you with this request.",
    "Unfortunately, I am not able to assist with that.",
    "I can't help with that, sorry.",
    "I won't be able to help with this request.",
    "That is something I can't help with.",
    "I must decline to help with this.",
    "I'm not able to provide assistance with that request.",
    "I cannot assist you with this matter.",
    "Sorry, but that's not something I can help with.",
    "I have to decline this request, sorry.",
    "I'm unable to assist with that kind of request.",
    "My apologies, but I can't assist with this.",
    "I'm sorry, this is not something that I am able to help with.",
    "Regrettably, I can't provide help with that.",
    "I do apologize, but I have to refuse that request.",
    "As an assistant, I am not able to help with requests like this.",
    "I would rather not help with that, I'm sorry.",
    "It would not be right for me to help with this, so I must refuse.",
    "I'm going to have to say no to this request.",
    "Helping with that is not something I can do, sorry.",
    "I'm sorry; I won't assist with that.",
)


class Kind(StrEnum):
    """What a collapse moves its share of the samples to."""

    ONE_REFUSAL = "one refusal"
    ONE_OPENING = "one opening"
    PARAPHRASES = "paraphrases"
    OWN = "each prompt's own text"


def dosed(
    texts: Sequence[str],
    problems: Sequence[str],
    kind: Kind,
    share: float,
    rng: np.random.Generator,
) -> list[str]:
    """The samples, each replaced with probability `share`.

    Of `Kind.OWN` the replacement is the prompt's first sample: sharpening, in which no text grows
    over all prompts.
    """
    own: dict[str, str] = {}
    for text, problem in zip(texts, problems, strict=True):
        own.setdefault(problem, text)
    given = list(texts)
    for row in np.flatnonzero(rng.random(len(texts)) < share):
        match kind:
            case Kind.ONE_REFUSAL:
                given[row] = REFUSAL
            case Kind.ONE_OPENING:
                given[row] = OPENING + texts[row]
            case Kind.PARAPHRASES:
                given[row] = str(rng.choice(PARAPHRASES))
            case Kind.OWN:
                given[row] = own[problems[row]]
    return given
