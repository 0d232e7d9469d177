"""How the verdict of a critic, or of a judge, is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ouroloop.evals.tasks import Prompts


def read_verdict(prompts: Prompts, critique: str) -> bool | None:
    """True = approved, False = rejected, None = unreadable.

    Only the last line counts, and only in the form of `prompts.verdict`: a sentence that holds the
    word `right` somewhere is no verdict. Case, blanks, emphasis (`**`), the colon and a final full
    stop make no difference.
    """
    line = _plain_line(verdict_line(critique))
    approve, reject = _plain_line(prompts.approve), _plain_line(prompts.reject)
    form = re.escape(_plain_line(prompts.verdict)).replace(r"\{verdict\}", "{verdict}")
    if r"\{finding\}" in form:
        # Both words in a line with a finding: which of them is meant is not clear.
        if all(re.search(rf"\b{re.escape(word)}\b", line) for word in (approve, reject)):
            return None
        form = re.sub(r"\\{finding\\}(?:\\ )*", r".*(?<!\\w)", form)
    for word, verdict in ((approve, True), (reject, False)):
        if re.fullmatch(form.replace("{verdict}", re.escape(word)), line):
            return verdict
    return None


def _plain_line(line: str) -> str:
    """A line without what makes no difference to a verdict."""
    line = re.sub(r"[*_`]", "", line).replace(":", " ").casefold()
    return re.sub(r"\s+", " ", line).strip().removesuffix(".").strip()


def verdict_line(critique: str) -> str:
    """The line that a verdict is read from: the last one with text in it."""
    lines: Sequence[str] = critique.strip().splitlines()
    return lines[-1] if lines else ""
