"""When two questions are the same: the one normaliser behind ids, splits and decontamination.

It stands here and not in `monitors`: those compare traces, and only tasks and the loop compare
questions.
"""

from __future__ import annotations

import re
import unicodedata

from ouroloop.monitors.arith.numbers import plain_signs

_PUNCTUATION = re.compile(r"[^\w+\-*/=<>.%$]+")
_FULL_STOP = re.compile(r"\.+(?= |$)")  # not the point of 1.5
# Letters and marks that show nothing, beside the format characters (category Cf: zero-width
# spaces and joiners, the soft hyphen, direction marks, tags): fillers and variation selectors.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def normalised(question: str) -> str:
    """What makes two questions the same: letters, digits and signs of arithmetic, lower case.

    Case, white space, punctuation, characters that show nothing and the compatibility forms of
    letters and signs (NFKC: full width, ligatures; × ÷ −) do not count. Near duplicates, other
    words for the same question, stay different.
    """
    if not question.isascii():
        question = _folded(question)
    text = _PUNCTUATION.sub(" ", question.casefold())
    return " ".join(_FULL_STOP.sub("", text).split())


def visible(text: str) -> str:
    """A text without what shows nothing, in one spelling of letters and signs (NFKC)."""
    if text.isascii():
        return text
    shown = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    # Before NFKC, which would make 21/2 of 2½.
    return unicodedata.normalize("NFKC", plain_signs(_BLANK.sub("", shown)))


def _folded(text: str) -> str:
    # Case folding can undo a composition (Unicode 3.13, D147), so NFKC stands on both sides.
    folded = unicodedata.normalize("NFKC", visible(text).casefold())
    return plain_signs(_BLANK.sub("", folded))
