r"""The final answer that a text states, and its one spelling: `#### $1,080.00` -> 1080.

The text is untrusted: nothing in it is ever evaluated here, no pattern backtracks far and every
length is capped.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ouroloop.monitors.arith.denials import is_denied
from ouroloop.monitors.arith.numbers import (
    DIGITS,
    MAX_DIGITS,
    SCALES,
    plain,
    spell,
    to_fraction,
)

MAX_TEXT = 20_000
"""Only so many last characters of a text are searched for an answer."""
MAX_ANSWER = 512
"""A longer answer is not read."""
# The last marker wins, so earlier ones matter only where the later ones mark nothing.
_MAX_MARKERS = 50

_REST = r"(?=([^\n]{0,600}))"  # looked at, not consumed: a line may hold several markers
_SAYS = r"(?:is|was|are|equals|(?:must|should|would|will) be)"
_JUDGED = (  # "The answer is correct" judges one, it states none
    r"\s+(?:correct|incorrect|right|wrong|not)\b"
)
_MARKERS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.MULTILINE))
    for kind, pattern in (
        (
            "says",
            rf"\banswer\b[^\n.=:]{{0,40}}?(?:\b{_SAYS}\b(?!{_JUDGED})[ \t]*:?|[:=]){_REST}",
        ),  # The answer is 72.
        (
            "line",
            rf"^[ \t>*_#]{{0,8}}(?:the )?(?:final )?answer[ \t]+(?!{_SAYS}\b)([^\n:=]+)$",
        ),  # answer 82, alone on its line
        ("bare", rf"\banswer[ \t]+(?=[-+$]{{0,2}}[0-9.]){_REST}"),  # ... answer 82
        ("colon", rf"^[ \t>*_#-]{{0,8}}A:{_REST}"),  # A: 18
        ("hashes", rf"####{_REST}"),  # #### 72
        ("tag", r"<answer>((?:[^<]|<(?!/?answer>)){0,2000})</answer>"),
        ("boxed", r"\\boxed\s*\{"),
    )
)
# Calculator notes hold numbers that are no answers.
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_SENTENCE_END = re.compile(r"[.!?]+[)*_\"']*(?:\s|$)")
_LOOSE_NUMBER = re.compile(rf"(?<![\w.])(?:(?<![)\]%])[-+])?\$?(?:{DIGITS})(?:/[0-9]+)?")
_SUM = re.compile(r"[0-9\s+*/().,$%=x-]+=")

# ---- what may stand around a number without changing it ------------------------------------

_AROUND = " \t\r\n*_`\"'"
_HEDGE = re.compile(
    r"(?:(?:about|approximately|approx\.|roughly|around|exactly|only|just)\s+|[=≈~:]\s*)+",
    re.IGNORECASE,
)
_REASON = re.compile(r"[\s,;(]+(?:because|since|which|so|as|where|therefore|thus)\b", re.IGNORECASE)
_REMARK = re.compile(r"(?<=\S)\s*\([^()]*[A-Za-z=][^()]*\)[\s.]*$")
# What multiplies a number is no unit of it: 72 dozen are 864, and 72M are 72 million.
_TIMES = {**SCALES, "dozen": 12, "dozens": 12, "k": 10**3, "m": 10**6, "b": 10**9}
_TIMES |= {"mn": 10**6, "mln": 10**6, "mio": 10**6, "bn": 10**9, "tn": 10**12}
# A capital M is a million and a small one metres; k is a thousand in either case.
_SCALE = rf"{'|'.join(SCALES)}|dozens?|mn|mln|mio|bn|tn|k|(?-i:M|B)"
# Words that turn a number into another one, or open a new clause: none of them is a unit.
_NO_UNIT = (
    "pi|sqrt|sin|cos|tan|log|exp|half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?"
    "|eighths?|ninths?|tenths?|hundredths?|thousandths?|hundreds|thousands|millions|billions"
    "|score|gross|squared|cubed|factorial|times|plus|minus|over|divided|multiplied|is|are|was|were"
    "|be|isn['’]t|wasn['’]t|aren['’]t|can|can['’]t|cannot|not|never|nor|and|or|but|than|except"
)
_WORD_UNIT = rf"(?!(?:{_NO_UNIT})\b)[A-Za-z][A-Za-z'’.]+(?:\^?[23])?"
_SHORT_UNIT = (
    r"(?:[kcm]?m|[km]?g|m?l|lbs?|oz|ft|in|mph|kph|[ap]\.?m|st|nd|rd|th|hrs?|mins?|secs?|[hsd]"
    r"|°\s?[CF]?)(?:\^?[23])?"
)
_UNIT = rf"(?:{_SHORT_UNIT}\b|\s+(?:{_SHORT_UNIT}\b|{_WORD_UNIT})|-{_WORD_UNIT})"
_UNIT += rf"(?:(?:[\s-]+|\s?/\s?)(?:{_WORD_UNIT}|{_SHORT_UNIT}\b)){{0,5}}"
_NUMBER = re.compile(
    r"(?:[A-Za-z]\w{0,20}\s*=\s*)?(?P<minus>negative\s|minus\s)?\s*"
    r"(?P<sign>[-+]?)\s*(?:USD?|EUR|Rs\.?)?\s*[$€£¥₹]?\s*(?P<sign2>[-+]?)"
    r"(?:(?P<whole>[0-9]{1,9})\s+(?=[0-9]+\s*/\s*[0-9]))?"
    rf"\(?(?P<top>-?(?:{DIGITS}))\.?\)?(?:\s*/\s*\(?(?P<bottom>{DIGITS})\)?)?"
    r"(?:\s*[*x]\s*10\s*(?:\^|\*\*)\s*\{?(?P<power>[-+]?[0-9]{1,3})\}?"
    r"|e(?P<exponent>[-+]?[0-9]{1,3}))?"
    rf"(?:\s*(?P<scale>{_SCALE})\b)?\s*[%$€£¥₹¢]?(?:{_UNIT})?[\s.,;:!?]*",
    re.IGNORECASE,
)
_MULTIPLIED = re.compile(rf"[\s-]*(?:{_SCALE})\b", re.IGNORECASE)
# A power of a power, a power of four digits, a factorial: too large to be worth reading.
_TOWER = re.compile(
    r"(?:\*\*|\^)[\s{(+-]*[\w.]+[\s)}]*(?:\*\*|\^)|(?:\*\*|\^)[\s{(+-]*[0-9]{4}|[0-9)]\s*!"
)


def extract_answer(text: str, last_number: bool = False) -> str | None:
    r"""The final answer that a text states, as written.

    The last marker wins: `answer 82`, `#### 72`, `A: 18` (at a line's start), `\boxed{...}`,
    `<answer>...</answer>`, `The answer is ...`. A marker with nothing after it does not count, nor
    does an `A:` that opens a longer text. The answer runs to the end of its line or sentence.
    Without a marker: None, or the last number of the text when `last_number` is true.
    """
    # From the end: the answer comes last, and a text may be long.
    text = _ANNOTATION.sub("", text[-MAX_TEXT:])
    # The start decides first, then the kind: a box inside a sentence begins later than the
    # sentence.
    found = [
        (match.start(), rank, candidate)
        for rank, (kind, pattern) in enumerate(_MARKERS)
        for match in list(pattern.finditer(text))[-_MAX_MARKERS:]
        if (candidate := _candidate(kind, text, match))
    ]
    if found:
        return max(found)[2]
    if not last_number:
        return None
    text = plain(text)
    numbers = list(_LOOSE_NUMBER.finditer(text))
    # "It cannot be 72" states no answer, and no earlier number is one because of it.
    if not numbers or is_denied(text, *numbers[-1].span()):
        return None
    return numbers[-1][0]


def canonical(answer: str) -> str | None:
    """The one spelling of an answer.

    None when it cannot be read: empty, too long, a tower of powers, division by zero.

    Numbers are exact: `$1,080.00` -> `1080`, `1/2` and `50/100` -> `0.5`, `2/6` -> `1/3`, `−5
    apples` -> `-5`, `1.8 billion` -> `1800000000`. Currency, unit and percent signs are dropped
    (`50%` -> `50`), a variable in front too (`x = 4` -> `4`). Nothing is rounded: 0.33 is not 1/3.
    Anything else is compared as text: lower case, one space, no outer punctuation.
    """
    if len(answer) > MAX_ANSWER:
        return None
    text = re.sub(r"\s+", " ", _unwrap(plain(answer)))
    if not text or _TOWER.search(text):
        return None
    # "about 12, because ..." is 12: reasons, remarks and hedges are no part of a number.
    clause = _REMARK.sub("", _REASON.split(text, maxsplit=1)[0]).strip()
    hedge = _HEDGE.match(clause)
    if hedge:
        clause = clause[hedge.end() :]
    match = _NUMBER.fullmatch(clause)
    if match:
        value = _value(match)
        return None if value is None else spell(value)
    # A number too long to be read must not pass as a text that happens to be equal.
    if re.search(rf"[0-9]{{{MAX_DIGITS + 1},}}", text):
        return None
    words = re.sub(r"\s*,\s*", ",", text).strip(" .,;:!?").casefold()
    return re.sub(r"^\((\w+)\)$", r"\1", words) or None


def is_number(answer: str) -> bool:
    """Whether a *canonical* answer is a number."""
    return re.fullmatch(r"-?[0-9]+(?:\.[0-9]+|/[0-9]+)?", answer) is not None


def _candidate(
    kind: str,
    text: str,
    match: re.Match[str],
) -> str:
    """What a marker marks, or "" when it marks nothing."""
    if kind == "boxed":
        return _braced(text, match.end())
    raw = match[1]
    box = re.search(r"\\boxed\s*\{", raw)
    if box:
        return _braced(raw, box.end())
    if kind == "tag":
        return raw.strip()
    end = _SENTENCE_END.search(raw)
    if end:
        raw = raw[: end.start()]
    candidate = raw.strip(_AROUND + ":")
    # "A: First we add the apples": here the answer's text begins, not the answer.
    opens_a_text = kind == "colon" and len(candidate.split()) > 3
    if opens_a_text and only_number(candidate) is None:
        return ""
    return candidate


def only_number(stated: str) -> str | None:
    """The number in a statement that is not itself one: the only one, or the result of a sum.

    None when it is not clear which number that is.
    """
    text = plain(stated[:MAX_ANSWER])
    if _TOWER.search(text):
        return None
    if _SUM.match(text):
        text = _SUM.sub("", text)  # 9 * 2 = 18
    read = canonical(text)
    if read is not None and is_number(read):
        return read
    numbers = list(_LOOSE_NUMBER.finditer(text))
    # What is left without the first number must hold no digit: "5 of 7" is not clear.
    others = re.sub(r"[0-9][0-9.,/]*(?![A-Za-z^*])", "", text, count=1)
    if len(numbers) != 1 or re.search("[0-9]", others) or len(text.split()) <= 2:
        return None
    start, end = numbers[0].span()
    if is_denied(text, start, end) or _MULTIPLIED.match(text, end):
        return None
    read = canonical(numbers[0][0])
    return read if read is not None and is_number(read) else None


def _value(match: re.Match[str]) -> Fraction | None:
    """The exact value of a _NUMBER match; None when it is too large or divides by zero."""
    top, bottom = to_fraction(match["top"]), to_fraction(match["bottom"] or "1")
    exponent = int(match["power"] or match["exponent"] or 0)
    if top is None or not bottom or abs(exponent) > MAX_DIGITS:
        return None
    value = top / bottom + int(match["whole"] or 0)
    # Signs may stand before and behind a currency sign, and "minus" before both.
    negative = (match["sign"] == "-") + (match["sign2"] == "-") + (match["minus"] is not None)
    scale = _TIMES.get((match["scale"] or "").lower(), 1)
    return Fraction(-1) ** negative * value * Fraction(10) ** exponent * scale


def _unwrap(text: str) -> str:
    """`text` without markdown, a pair of dollar signs and a box around it."""
    text = text.strip(_AROUND).rstrip(".").strip(_AROUND)
    box = re.match(r"\\boxed\s*\{", text)
    if box:
        text = _braced(text, box.end())
    if re.fullmatch(r"\$[^$]+\$", text):
        text = text.strip("$")
    return text.strip(_AROUND)


def _braced(text: str, start: int) -> str:
    """What stands between the brace that opened just before `start` and its partner.

    Empty when it does not close within `MAX_ANSWER` characters.
    """
    depth = 1
    for position in range(start, min(len(text), start + MAX_ANSWER)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position].strip()
    return ""
