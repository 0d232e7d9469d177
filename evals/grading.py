"""Is the final answer in a text right? Exact arithmetic first.

Symbolic comparison only in killable workers. `ouroloop.monitors.arith.answers` reads the answer.
Knows nothing of tasks' files.
"""

from __future__ import annotations

import re

from ouroloop.evals.errors import SandboxError, SandboxTimeout
from ouroloop.evals.sandbox import Sandbox
from ouroloop.evals.tasks import Grade
from ouroloop.monitors.arith.answers import canonical, extract_answer, is_number, only_number
from ouroloop.monitors.arith.numbers import plain

_WORD = re.compile(r"(?<!\\)\b(?!(?:sqrt|sin|cos|tan|log|exp|frac|pi)\b)[A-Za-z]{3,}")
_MATHS = re.compile(r"[\\^*/+=(){}\[\]-]")


def grade(
    gold: str | None, text: str, *, last_number: bool = False, symbolic: Sandbox | None = None
) -> Grade:
    """Judge the final answer in `text` against `gold`.

    `correct` is None only when there is no gold. An answer that is missing, unreadable or that made
    the symbolic comparison time out is wrong: a text must not leave the denominator by being
    hostile. When the gold is a number and the statement is not, its only number counts, or the
    result of a sum (`A: 9 * 2 = 18`, `Answer: Janet makes $18.`).

    Args:
        gold: the right answer, or None when nobody knows it.
        text: untrusted model output.
        last_number: without a final-answer marker, take the last number.
        symbolic: a sandbox of `ouroloop.evals.symbolic:same_expression` for golds that are
            expressions (extra `verify`); None: exact path only.
    """
    stated = extract_answer(text, last_number)
    if stated is None:
        is_wrong = None if gold is None else False
        return Grade(is_wrong, None, "no answer")
    read = canonical(stated)
    if gold is None:
        return Grade(None, read, "no gold")
    right = canonical(gold)
    if right is not None and is_number(right) and (read is None or not is_number(read)):
        read = only_number(stated) or read
    if read is None:
        return Grade(False, None, "unreadable")
    if read == right or symbolic is None or not _worth_comparing(gold, stated):
        return Grade(read == right, read, "exact")
    try:
        return Grade(bool(symbolic.call(gold, stated)), read, "symbolic")
    except SandboxTimeout:
        return Grade(False, read, "symbolic timeout")
    except SandboxError:
        return Grade(False, read, "symbolic error")


def _worth_comparing(gold: str, answer: str) -> bool:
    """Only expressions go to math-verify.

    It calls `abc` and `cab` equal (a product of letters), and `47+35` an answer to 82.
    """
    read = canonical(gold)
    if read is None or is_number(read) or len(answer) > 200 or len(gold) > 200:
        return False
    return all(_MATHS.search(side) and not _WORD.search(plain(side)) for side in (gold, answer))
