"""Graders: who reads a text's final answer and says whether it is the gold one.

`docs/grading.md` says what each accepts. A grader never raises on a text, which is untrusted.
"""

from __future__ import annotations

import ast
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ouroloop.evals.code_runner import Limits, Pair, run_tests
from ouroloop.evals.errors import DataError
from ouroloop.evals.grading import grade
from ouroloop.evals.sandbox import Sandbox
from ouroloop.evals.tasks import WORKED_SOLUTIONS, Capability, Grade, Problem
from ouroloop.monitors.arith.answers import MAX_ANSWER, extract_answer

# What can be done with texts whose answer is no number: it is read, and nothing is made wrong.
ANSWERS_ALONE = frozenset({Capability.ANSWERS})


@dataclass(frozen=True)
class FinalAnswer:
    """Compares the final answer with the gold one, numbers exactly.

    last_number: without a final-answer marker the last number of a text is its answer. symbolic:
    compare expressions with math-verify in a sandbox (extra `verify`).
    """

    last_number: bool = False
    symbolic: bool = False
    reads_answers: bool = True
    capabilities: Collection[Capability] = WORKED_SOLUTIONS

    def grade(self, problem: Problem, text: str) -> Grade:
        """`correct` is None for a problem without a gold answer."""
        return grade(problem.answer, text, last_number=self.last_number, symbolic=self._sandbox)

    @cached_property
    def _sandbox(self) -> Sandbox | None:
        # A process of its own: a comparison can run without end on a hostile expression.
        if not self.symbolic:
            return None
        return Sandbox("ouroloop.evals.symbolic:same_expression")


@dataclass(frozen=True)
class NotScored:
    """Scores nothing: free text, judged by a critic or by filters alone."""

    reads_answers: bool = False
    capabilities: Collection[Capability] = ()

    def grade(self, problem: Problem, text: str) -> Grade:
        """Unscored is not wrong."""
        return Grade(None, None, "not scored")


@dataclass(frozen=True)
class ExactText:
    """The answer is the gold text, but for case, white space and final punctuation.

    The answer is what stands after a final-answer marker; without one, the last line with text.
    """

    reads_answers: bool = True
    capabilities: Collection[Capability] = ANSWERS_ALONE

    def grade(self, problem: Problem, text: str) -> Grade:
        """Wrong where there is no answer."""
        stated = extract_answer(text)
        if stated is None:
            stated = _last_line(text)
        read = same_text_key(stated)
        gold = same_text_key(problem.answer or "")
        if not read:
            return Grade(None if problem.answer is None else False, None, "no answer")
        if problem.answer is None:
            return Grade(None, read, "no gold")
        return Grade(read == gold, read, "exact text")


def same_text_key(text: str) -> str:
    """A text without what makes no difference: NFKC, case, white space, outer punctuation."""
    folded = unicodedata.normalize("NFKC", text[:MAX_ANSWER]).casefold()
    return " ".join(folded.split()).strip(" .,;:!?*_`\"'")


_LETTER = r"[A-Ja-j]"
_BRACKETED = re.compile(rf"[(\[{{]\s*({_LETTER})\s*[)\]}}]")
# "B", "B.", "B) four", "b: four"; a letter that begins a word or a sentence is none.
_LEADING = re.compile(rf"(?:(?:option|choice|answer)\s+)?({_LETTER})(?:\s*[.):,]|\s*$)", re.I)
_LATER = re.compile(r"(?<![A-Za-z'’])([A-J])(?![A-Za-z'’])")
_REFUSES = re.compile(r"\b(?:not|never|neither|nor|cannot|none|except)\b|n['’]t\b", re.I)


@dataclass(frozen=True)
class Choice:
    r"""The answer is one letter, A to J: `(B)`, `B.`, `The answer is (B)`, `\boxed{B}`.

    Several letters are no answer.
    """

    reads_answers: bool = True
    capabilities: Collection[Capability] = WORKED_SOLUTIONS - {Capability.CORRUPTIONS}

    def grade(self, problem: Problem, text: str) -> Grade:
        """Wrong where no one letter is chosen."""
        gold = read_choice(problem.answer) if problem.answer else None
        read = read_choice(extract_answer(text) or _last_line(text))
        if gold is None:
            return Grade(None, read, "no gold letter")
        return Grade(read == gold, read, "choice")


def read_choice(statement: str) -> str | None:
    """The one letter that a statement chooses; None where it chooses none or several."""
    text = unicodedata.normalize("NFKC", statement[:MAX_ANSWER])
    text = re.sub(r"\\(?:text|mathrm|mathbf|boxed|textbf)\s*", "", text)
    text = re.sub(r"[*_`$\\]", "", text).strip()
    if _REFUSES.search(text):
        return None
    letters = {found.upper() for found in _BRACKETED.findall(text)}
    if not letters:
        first = _LEADING.match(text)
        if first:
            letters = {first[1].upper()}
            text = text[first.end() :]
            letters |= set(re.findall(r"(?:^|\bor\b|\band\b|[,/&])\s*([A-J])(?![A-Za-z'’])", text))
        else:
            # "A" as the article, and "I", are words here.
            text = re.sub(r"\bA(?=\s+(?!or\b|and\b)[a-z])|\bI(?=\s)", " ", text)
            letters = set(_LATER.findall(text))
    if len(letters) != 1:
        return None
    (letter,) = letters
    return str(letter)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """The last code block passes the problem's `tests`: asserts, or {stdin, stdout} pairs.

    seconds, memory_bytes, output_bytes: limits of one run (`code_runner` says what holds).
    """

    seconds: float = 5.0
    memory_bytes: int = 2**30
    output_bytes: int = 2**20
    reads_answers: bool = True
    capabilities: Collection[Capability] = ANSWERS_ALONE | {Capability.UNAIDED}

    def grade(self, problem: Problem, text: str) -> Grade:
        """`correct` is None for a problem without tests; the answer names the program."""
        tests = read_tests(problem)
        code = last_code_block(text)
        if code is None:
            return Grade(False if tests else None, None, "no code block")
        name = _program_name(code)
        if not tests:
            return Grade(None, name, "no tests")
        limits = Limits(self.seconds, self.memory_bytes, self.output_bytes)
        outcome = run_tests(code, tests, limits)
        return Grade(outcome.passed, name, f"code: {outcome.reason}")


def last_code_block(text: str) -> str | None:
    """The last closed block between ``` lines; the whole text where it is a program itself."""
    blocks = _FENCE.findall(text)
    if blocks:
        return str(blocks[-1])
    try:
        # Prose is no program, and neither is a single word or number.
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    is_program = any(not isinstance(statement, ast.Expr) for statement in body)
    return text if is_program else None


def read_tests(problem: Problem) -> list[str | Pair]:
    """The unit tests of a problem, from its field `tests`.

    Raises:
        DataError: one is neither a text nor a pair.
    """
    given = problem.metadata.get("tests") or []
    tests: list[str | Pair] = []
    for test in [given] if isinstance(given, str | dict) else given:
        if isinstance(test, str):
            tests.append(test)
        elif isinstance(test, dict) and set(test) == {"stdin", "stdout"}:
            tests.append(Pair(str(test["stdin"]), str(test["stdout"])))
        else:
            raise DataError(
                f"problem {problem.id}: tests holds {str(test)[:60]!r}; expected assert"
                ' statements as texts, or {"stdin": ..., "stdout": ...}.'
            )
    return tests


def _program_name(code: str) -> str:
    """Equal for programs that differ in layout and comments alone."""
    try:
        code = ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        code = code.strip()
    return "program " + hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True)
class FunctionGrader:
    """A plain function of one's own: (text, problem) -> bool, a score in [0, 1], or None.

    A score of a half or more is right; None is unscored. The answer is what stands after a
    final-answer marker, where there is one; it is not asked for.
    """

    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    reads_answers: bool = False
    capabilities: Collection[Capability] = (Capability.UNAIDED,)

    def grade(self, problem: Problem, text: str) -> Grade:
        """What the function says.

        Raises:
            TypeError: it said something else; the loop counts that as unreadable.
        """
        said = self.function(text, problem, **self.options)
        # numpy's numbers and switches, and a tensor of one, as Python's own.
        if hasattr(said, "item"):
            said = said.item()
        answer = extract_answer(text)
        if said is None:
            return Grade(None, answer, "function")
        if not isinstance(said, bool | int | float) or not 0 <= said <= 1:
            raise TypeError(f"expected a bool, a number in [0, 1] or None, got {said!r}")
        return Grade(said >= 0.5, answer, "function")
