"""Numbers as people and models write them: exact, bounded, never evaluated.

The bottom of the one reader of arithmetic: `tokens` and everything above it, the graders and the
strategies alike, spell and value a number here. Untrusted text: ASCII digits only, patterns that
take linear time, capped lengths.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 64
"""Digits of a number at most: Python's int() is quadratic, and no problem here needs more."""

DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
"""An unsigned decimal, with or without thousands commas. Wrap in a group."""

SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
"""Words after a number that multiply it."""

TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_UNITS += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"]
_UNITS += ["eighteen", "nineteen"]
NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)}
NUMBER_WORDS |= {word: 10 * tens for tens, word in enumerate(TENS, 2)}
"""The numbers up to ninety that are one word."""

PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "tenth": 10,
}
"""Words for one part of so many."""

# One pass over the text, whatever it holds: translate is linear.
_SPELLINGS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－", "-"),
        **dict.fromkeys("×∗⋅·", "*"),
        **dict.fromkeys("÷∕⁄", "/"),
        "＋": "+",
        "＝": "=",
        "，": ",",
        "％": "%",
        **dict.fromkeys("\u00a0\u202f\u2009\u2007", " "),
        **dict.fromkeys("\u200b\ufeff", None),
        "²": "^2",
        "³": "^3",
        "¼": " 1/4",
        "½": " 1/2",
        "¾": " 3/4",
        "⅓": " 1/3",
        "⅔": " 2/3",
        "⅕": " 1/5",
        "⅛": " 1/8",
    }
)
# Only special blanks join digits: 12 500 with a plain blank may be two numbers.
_SPACED_THOUSANDS = re.compile(r"(?<=[0-9])[\u00a0\u202f\u2009](?=[0-9]{3}(?![0-9]))")

# In this order: layout commands go first, so that no later pattern meets one.
_LATEX = (
    (re.compile(r"\\(?:left|right|displaystyle|mathrm|mathbf|,|;|!|:)"), ""),
    (re.compile(r"\\[dt]?frac\s*\{\s*([0-9.]{1,40})\s*\}\s*\{\s*([0-9.]{1,40})\s*\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]{1,80})\}\s*\{([^{}]{1,80})\}"), r"(\1)/(\2)"),
    (re.compile(r"\\[dt]?frac\s*([0-9])\s*([0-9])"), r" \1/\2"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\text\s*\{([^{}]{0,80})\}"), r" \1 "),
    (re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})"), " degrees"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\]]"), ""),
)


def plain(text: str) -> str:
    r"""`text` with Unicode signs, vulgar fractions and the commonest LaTeX spelt in ASCII.

    × is *, \frac{1}{2} is 1/2.
    """
    text = plain_signs(text)
    if "\\" in text or "{,}" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    return text


def plain_signs(text: str) -> str:
    """`text` with Unicode signs, blanks and vulgar fractions spelt in ASCII."""
    if text.isascii():
        return text
    return _SPACED_THOUSANDS.sub("", text).translate(_SPELLINGS)


def to_fraction(digits: str) -> Fraction | None:
    """The exact value of an optionally signed decimal such as `-1,234.50`.

    None for one longer than `MAX_DIGITS`.
    """
    digits = digits.replace(",", "")
    if len(digits) > MAX_DIGITS:
        return None
    # int() first: Fraction(str) goes through a regular expression and is ten times slower.
    return Fraction(int(digits)) if digits.isdigit() else Fraction(digits)


def spell(value: Fraction) -> str:
    """The one spelling of a rational: an integer, else the finite decimal, else a reduced fraction.

    Such as 72, 0.5 and 1/3.
    """
    if value.denominator == 1:
        return str(value.numerator)
    # Finite in decimals exactly when the denominator has no prime factor but 2 and 5.
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > MAX_DIGITS:
        return f"{value.numerator}/{value.denominator}"
    whole, part = divmod(abs(value.numerator) * 10**places // value.denominator, 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{places}d}"
