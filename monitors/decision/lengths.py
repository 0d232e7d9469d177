"""How long a sample is, in a unit that the baseline fixes, and which lengths are usual there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from ouroloop.monitors.base import Floats, Samples

# The middle 95 % of the baseline's lengths, as many out at either end.
BAND = (0.025, 0.975)
LONG_WORD = 15
"""Characters between blanks, in the mean, from which on these are no words.

Of languages that write blanks the longest words have a mean of about 9 (Finnish, German law);
Chinese, Japanese and Thai write clauses or whole texts without one.
"""


class Unit(StrEnum):
    """What lengths are counted in."""

    TOKENS = "tokens"
    WORDS = "words"
    CHARACTERS = "characters"


def units(baseline: Samples) -> Mapping[str, Unit]:
    """Family -> the unit of its lengths: tokens where any are known, else by its texts."""
    families = sorted(set(baseline.family))
    if np.isfinite(baseline.num_tokens).any():
        return dict.fromkeys(families, Unit.TOKENS)
    found = {}
    for family in families:
        words = [word for text in baseline.text[baseline.family == family] for word in text.split()]
        has_words = sum(map(len, words)) <= LONG_WORD * len(words)
        found[family] = Unit.WORDS if has_words else Unit.CHARACTERS
    return found


def lengths(samples: Samples, unit: Mapping[str, Unit]) -> Floats:
    """Each sample's length, (N,); NaN where it is not known, or the text is empty.

    Args:
        samples: the samples.
        unit: what `units` found; of a family that the baseline has not, words.
    """
    if Unit.TOKENS in unit.values():
        return samples.num_tokens
    num_N = np.zeros(len(samples))
    for i, (family, text) in enumerate(zip(samples.family, samples.text, strict=True)):
        words = text.split()
        in_characters = unit.get(family) is Unit.CHARACTERS
        num_N[i] = sum(map(len, words)) if in_characters else len(words)
    # No word at all: the text may not be known, and `answered` looks at what is empty.
    return np.where(num_N > 0, num_N, np.nan)


def usual(x_N: Floats) -> tuple[float, float]:
    """The ends, both within, of what is usual by these values; NaN without any.

    Each end lies just within the nearest value that is out. At the outermost values that are in, an
    end would be in by definition, and fresh samples of the same model looked less usual than these:
    by 2 / N a family, which with few samples of many families is several standard errors.
    """
    known_N = np.sort(x_N[np.isfinite(x_N)])
    if not len(known_N):
        return float("nan"), float("nan")
    num_out = int(np.ceil(BAND[0] * (len(known_N) - 1)))
    # One sample says nothing of what is unusual.
    if num_out == 0:
        return 0.0, float(np.finfo(float).max)
    # From the value that is out towards the one that is in; equal ones are both in.
    low = np.nextafter(known_N[num_out - 1], known_N[num_out])
    high = np.nextafter(known_N[-num_out], known_N[-num_out - 1])
    return float(low), float(high)
