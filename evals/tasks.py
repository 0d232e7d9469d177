"""What a task is: problems with (or without) gold answers, a grader.

And what a task may know about steps and strategies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Split = Literal["train", "heldout", "reserve"]


@dataclass(frozen=True)
class Problem:
    """One problem. `id` is stable across runs (content hash or the file's own id).

    `answer` None means that no gold is known.

    `family` groups problems whose accuracy is reported together; `slice` is "typical" or "tail"
    (hard by construction or by base pass rate); `solution` is a demonstration in the task's own
    format, when there is one.
    """

    id: str
    question: str
    answer: str | None
    family: str = "default"
    slice: str = "typical"
    solution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grade:
    """correct None = could not be scored (no gold answer).

    Unscored is not wrong. `answer` is the canonical final answer read from the text.
    """

    correct: bool | None
    answer: str | None
    method: str


@dataclass(frozen=True)
class StepCheck:
    """valid None = nothing checkable was found. first_wrong counts calculations from 0."""

    valid: bool | None
    num_steps: int
    first_wrong: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Prompts:
    """The templates of a loop (str.format fields) and how to read a critique's verdict.

    draft: {question}. critique: {question} {draft} {principle}. revise: {question} {draft}
    {critique} {principle}. direct: {question} {draft} {principle}; a revision that answers no
    critique. answer: {answer}; what a final answer looks like on its own. A verdict is read from
    the last line that holds `approve` or `reject` as a whole word sequence; neither = unreadable.
    `chat` wraps each rendered template as one user turn (checkpoint's own chat template).
    """

    draft: str
    critique: str
    revise: str
    approve: str
    reject: str
    chat: bool = False
    system: str | None = None
    answer: str = "answer {answer}"
    direct: str = "{question}\n{draft}\n{principle}\n"


class Task(Protocol):
    """A source of problems that can grade answers to them.

    `strategy` returns the *true* strategy where the task knows it (the worlds), else None, and a
    canonicaliser of `monitors` names one. `prompts` None means: the loop's own templates.
    """

    @property
    def name(self) -> str:
        """Short and stable; runs and reports show it."""
        ...

    @property
    def prompts(self) -> Prompts | None:
        """The task's own templates, if it has any."""
        ...

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split in a fixed order; splits are disjoint."""
        ...

    def grade(self, problem: Problem, text: str) -> Grade:
        """Judge the final answer in `text`."""
        ...

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        """Judge every calculation in `text`."""
        ...

    def strategy(self, problem: Problem, text: str) -> str | None:
        """The true strategy of `text`, or None when the task cannot know."""
        ...

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        """A version of a right `text` that is wrong for certain, or None.

        A wrong answer, or with `keep_answer` the right one by a wrong step.

        Same seed, same text. A task that knows no better calls `ouroloop.evals.corrupt`.
        """
        ...
