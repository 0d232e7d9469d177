"""What a task is: problems with (or without) gold answers, and what it can say of texts on them.

A task declares what it can do (`Capability`); nobody asks what it is called. `PlainTask` is the
base of tasks that can do little, free text for instance: such a task needs one method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

# Training draws from `train`, the probe set from `heldout`. `reserve` has solutions that training
# never sees: the verifier audit and the scored texts are taken from it.
Split = Literal["train", "heldout", "reserve"]


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Problem:
    """One problem. `id` is stable across runs (content hash or the file's own id).

    `answer` None means that no gold is known.

    `family` groups problems whose accuracy is reported together; `slice` is "typical" or "tail"
    (hard by construction or by base pass rate); `solution` is a demonstration in the task's own
    format, when there is one; `system` is the system prompt that the question is asked under.

    `messages` are the turns of a conversation of several, the last one the user's; empty where the
    question alone is asked. `question` then holds all of them as one text, each with its speaker:
    what tells problems apart, and what readers of strategies see.
    """

    id: str
    question: str
    answer: str | None
    family: str = "default"
    slice: str = "typical"
    solution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    messages: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Grade:
    """correct None = could not be scored (no gold answer).

    Unscored is not wrong. `answer` is the canonical final answer read from the text; `method` says
    how it was judged, in words for people. `is_closed` False: the text ended inside a thought or
    with it, and has no answer therefore.
    """

    correct: bool | None
    answer: str | None
    method: str
    is_closed: bool = True


@dataclass(frozen=True)
class StepCheck:
    """valid None = nothing checkable was found. first_wrong counts calculations from 0."""

    valid: bool | None
    num_steps: int
    first_wrong: int | None = None
    reason: str = ""


class Form(StrEnum):
    """How critiques and revisions are asked for."""

    PROMPTS = "prompts"
    """By the templates, each a prompt of its own."""
    TURNS = "turns"
    """As further turns of the conversation, in the checkpoint's chat template."""
    PAPER = "paper"
    """As one text with `CritiqueRequest:` and `RevisionRequest:` (Bai et al. 2212.08073)."""


@dataclass(frozen=True)
class Prompts:
    """The templates of a loop (str.format fields) and how to read a critique's verdict.

    draft: {question}. critique: {question} {draft} {principle}. revise: {question} {draft}
    {critique} {principle}. direct: {question} {draft} {principle}; a revision that answers no
    critique. answer: {answer}; what a final answer looks like on its own. verdict: the last line of
    a critique, {verdict} being `approve` or `reject`, and {finding}, where it has one, any text
    before it. A last line of another form is unreadable.
    `chat` wraps each rendered template as one user turn (checkpoint's own chat template).

    `form`: in those other than `prompts`, critique, revise and direct are not used. `asks_verdict`:
    whether a critique is asked for a verdict in these forms.
    """

    draft: str
    critique: str
    revise: str
    approve: str
    reject: str
    chat: bool = False
    system: str | None = None
    answer: str = "answer {answer}"
    verdict: str = "verdict: {verdict}"
    direct: str = "{question}\n{draft}\n{principle}\n"
    form: Form = Form.PROMPTS
    asks_verdict: bool = True


class Capability(StrEnum):
    """What a task can do.

    A recipe that needs what is not declared is refused. The methods behind a capability that is not
    declared answer "not known" (None), whatever they are asked.
    """

    ANSWERS = "answers"
    """`grade` reads a final answer from a text: a sample without one is malformed."""
    NUMBERS = "numbers"
    """Solutions are calculations: their dataflow names a strategy."""
    STEPS = "steps"
    """`check_steps` judges calculations."""
    STRATEGIES = "strategies"
    """`strategy` knows the true strategy of a text."""
    UNAIDED = "unaided"
    """`grade` says right or wrong without a gold answer: by tests, a judge or a function."""
    CORRUPTIONS = "corruptions"
    """`corrupt` makes texts that are wrong for certain, for the verifier audit."""


# What can be done with any worked solutions of problems with numbers.
WORKED_SOLUTIONS = frozenset(
    {Capability.ANSWERS, Capability.NUMBERS, Capability.STEPS, Capability.CORRUPTIONS}
)


class Grader(Protocol):
    """Judges the final answer in a text. Pure; never raises on a text, which is untrusted."""

    @property
    def reads_answers(self) -> bool:
        """Whether it states the answer that it read; false where texts have none."""
        ...

    @property
    def capabilities(self) -> Collection[Capability]:
        """What can be done with texts that it grades."""
        ...

    def grade(self, problem: Problem, text: str) -> Grade:
        """The grade of `text` as a solution of `problem`."""
        ...


class Scorer(Protocol):
    """Says how far a text is approved of by one criterion: a moderation classifier, say."""

    def score(self, problem: Problem, text: str) -> float | None:
        """From 0, not at all, to 1; None where it cannot say.

        `text` is an answer to `problem`. The same answer has the same score in every round.
        """
        ...


class Task(Protocol):
    """A source of problems that can grade answers to them.

    `prompts` None means: the loop's own templates.
    """

    @property
    def name(self) -> str:
        """Short and stable; runs and reports show it."""
        ...

    @property
    def capabilities(self) -> Collection[Capability]:
        """What it can do."""
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
        """The true strategy of `text`, or None when it follows none.

        A task without this capability says None; a canonicaliser of `monitors` names one then.
        """
        ...

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        """A version of a right `text` that is wrong for certain, or None.

        A wrong answer, or with `keep_answer` the right one by a wrong step.

        Same seed, same text. A task that knows no better calls `ouroloop.evals.corrupt`.
        """
        ...


class PlainTask:
    """A task that can only pose problems. Override `problems`, and what else you can do.

    Its samples are not scored, their steps are not checked, and what counts as the same strategy is
    learned from the texts of round 0 (step templates).
    """

    name: str = "plain"
    capabilities: Collection[Capability] = ()
    prompts: Prompts | None = None

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split in a fixed order; splits are disjoint."""
        raise NotImplementedError(f"{type(self).__name__}.problems: a task must pose problems")

    def grade(self, problem: Problem, text: str) -> Grade:
        """Not scored."""
        return Grade(None, None, "not scored")

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        """Not checked."""
        return StepCheck(None, 0, reason="this task checks no steps")

    def strategy(self, problem: Problem, text: str) -> str | None:
        """Not known."""
        return None

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        """Nothing is wrong for certain."""
        return None
