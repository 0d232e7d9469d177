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
    words for the same question, stay different. Of a question without any letter or digit its
    pictures (emoji) count.
    """
    if question.isascii():
        return _words(_PUNCTUATION.sub(" ", question.casefold()))
    folded = _folded(question)
    found = _words(_PUNCTUATION.sub(_without_punctuation, folded.casefold()))
    return found or "".join(sign for sign in folded if unicodedata.category(sign) == "So")


def visible(text: str) -> str:
    """A text without what shows nothing, in one spelling of letters and signs (NFKC)."""
    if text.isascii():
        return text
    shown = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    # Before NFKC, which would make 21/2 of 2½.
    return unicodedata.normalize("NFKC", plain_signs(_BLANK.sub("", shown)))


def _words(text: str) -> str:
    return " ".join(_FULL_STOP.sub("", text).split())


def _without_punctuation(found: re.Match[str]) -> str:
    return "".join(sign if _is_vowel_sign(sign) else " " for sign in found[0])


def _is_vowel_sign(sign: str) -> bool:
    """Whether a mark is a part of a word's spelling, as vowels are in Hindi, Tamil or Thai.

    Python counts such marks as no letters. Accents (combining classes from 200 on), the points of
    Hebrew and Arabic (10 to 36), which are mostly left out, and strokes (1) are none.
    """
    if unicodedata.category(sign) not in ("Mn", "Mc"):
        return False
    place = unicodedata.combining(sign)
    return place == 0 or 6 <= place <= 9 or 84 <= place < 200


def _folded(text: str) -> str:
    # Case folding can undo a composition (Unicode 3.13, D147), so NFKC stands on both sides.
    folded = unicodedata.normalize("NFKC", visible(text).casefold())
    return plain_signs(_BLANK.sub("", folded))
