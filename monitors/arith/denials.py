"""Whether a sentence states a number, or denies it: `cannot be 72`, `more than 72`, `72 is wrong`.

A list of the common English ways; a text that denies its number in another way is read as stating
it.
"""

from __future__ import annotations

import re

# So much of the text on either side is looked at: a clause is rarely longer.
_WINDOW = 160

_CLAUSE_END = re.compile(r"[.!?;,:](?:\s|$)|\n|(?<!anything )\bbut\b")
_NEGATION = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|hardly|nowhere|no longer|instead of|rather than)"
    r"|n['’]t)\b",
    re.IGNORECASE,
)
# Directly before the number: "5 more than Bob" compares, but states 5.
_COMPARATIVE = re.compile(
    r"\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|other|different|apart)"
    r"\s+(?:than|from)|over|under|above|below|beyond|nearly|almost|exceed(?:s|ing)?|anything but)"
    r"\s+(?:about\s+)?[$€£(]*$",
    re.IGNORECASE,
)
_JUDGED_WRONG = re.compile(
    r"\s*(?:[A-Za-z]+\s+){0,3}?(?:is|was|are|were|be|seems?|looks?)\s+(?:[A-Za-z]+\s+){0,2}?"
    r"(?:wrong|incorrect|false|mistaken|impossible|not"
    r"|too\s+(?:high|low|many|much|few|large|small))"
    r"\b|\s*(?:[A-Za-z]+\s+){0,3}?(?:isn|wasn|aren|can|couldn)['’]t\b"
    r"|\s*(?:[A-Za-z]+\s+){0,2}?cannot\b|\s*or\s+(?:more|less|fewer)\b",
    re.IGNORECASE,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the sentence around `text[start:end]`, a number, says that it is not this number."""
    before = _CLAUSE_END.split(text[max(0, start - _WINDOW) : start])[-1]
    if _NEGATION.search(before) or _COMPARATIVE.search(before):
        return True
    return _JUDGED_WRONG.match(text[end : end + _WINDOW]) is not None
