"""Tasks from files: any JSONL of questions and answers, and GSM8K's format.

Knows nothing of the loop that trains on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ouroloop.evals.corrupt import corrupt
from ouroloop.evals.errors import DataError
from ouroloop.evals.graders import FinalAnswer
from ouroloop.evals.problem_files import (
    ReadRow,
    read_gsm8k,
    read_problem,
    read_problems,
    text_digest,
)
from ouroloop.evals.questions import normalised
from ouroloop.evals.steps import check
from ouroloop.evals.tasks import (
    WORKED_SOLUTIONS,
    Capability,
    Grade,
    Grader,
    Problem,
    Prompts,
    Split,
    StepCheck,
)

# Without a held-out file every fifth problem (by the hash of its question) is held out.
HELDOUT_PART = 5
# Every tenth training problem that has a solution (by hash again) goes to the reserve.
RESERVE_PART = 10


@dataclass(frozen=True)
class JsonlTask:
    """Problems from one or two JSONL files.

    Every line has a `question`, and optionally `answer`, `id`, `family`, `solution`, `slice`.

    Splits depend on each question's text alone, not on its place: adding problems moves none.
    `reserve` holds a tenth of the training problems that have solutions. Of two problems with the
    same question (case, space and punctuation aside) the first counts, and a held-out question is
    taken out of training. `grader` reads final answers; where it reads none (`NotScored`), the
    texts count as free text, without numbers or steps.
    """

    path: Path
    heldout_path: Path | None = None
    name: str = "jsonl"
    prompts: Prompts | None = None
    grader: Grader = field(default_factory=FinalAnswer)
    read_row: ReadRow = read_problem

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the grader; one of somebody's own may leave them out."""
        plain = WORKED_SOLUTIONS if self.grader.reads_answers else frozenset()
        return frozenset(getattr(self.grader, "capabilities", plain))

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split in file order; the splits are disjoint by question.

        Raises: DataError: a file is missing, empty or malformed, or a split that training and
            evaluation need is empty.
        """
        return list(self._splits[split])

    def grade(self, problem: Problem, text: str) -> Grade:
        """Judge the final answer in `text`.

        `correct` is None for a problem without a gold answer.
        """
        return self.grader.grade(problem, text)

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        """Check every calculation in `text`."""
        return check(text)

    def strategy(self, problem: Problem, text: str) -> str | None:
        """None: a file of problems does not know the strategies of their solutions."""
        return None

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        """One number changed."""
        return corrupt(self, problem, text, seed, keep_answer)

    @cached_property
    def _splits(self) -> dict[Split, list[Problem]]:
        everything = read_problems(self.path, self.read_row)
        if self.heldout_path is None:
            heldout = [problem for problem in everything if _part(problem, "heldout", HELDOUT_PART)]
            remedy = "Add problems, or name a file of held-out problems (heldout_path)."
        else:
            heldout = read_problems(self.heldout_path, self.read_row)
            remedy = "The file of training problems must hold others than the held-out file."
        # Held-out problems win: what they ask is taken out of training, however it is spelt.
        held = {normalised(problem.question): problem.id for problem in heldout}
        rest = [problem for problem in everything if normalised(problem.question) not in held]
        if shared := sorted({problem.id for problem in rest} & set(held.values())):
            raise DataError(
                f"{self.path} and {self.heldout_path}: id {shared[0]!r} names different questions"
                f" in the two files ({len(shared)} such ids); expected ids unique over both. Drop"
                " the field 'id' to have ids made."
            )
        # Only what has a solution can be a demonstration.
        reserve = [
            problem
            for problem in rest
            if problem.solution and _part(problem, "reserve", RESERVE_PART)
        ]
        drawn = {problem.id for problem in reserve}
        train = [problem for problem in rest if problem.id not in drawn]
        if not heldout or not train:
            raise DataError(
                f"{self.path}: {len(everything)} problems give {len(train)} for training and"
                f" {len(heldout)} held out; expected at least 1 of each. {remedy}"
            )
        return {"train": train, "heldout": heldout, "reserve": reserve}


def gsm8k_task(path: Path, heldout_path: Path | None = None, **settings: Any) -> JsonlTask:
    """A task from files in GSM8K's format.

    `question`, and an `answer` that is a worked solution ending in `#### N`.

    A problem's `solution` is that text without its `<<48/2=24>>` annotations (no model is asked to
    write them) and with its `#### N` line.
    """
    return JsonlTask(path, heldout_path, name="gsm8k", read_row=read_gsm8k, **settings)


def _part(problem: Problem, purpose: str, parts: int) -> bool:
    """Whether a problem falls into one of `parts` equal parts, by hash.

    Another purpose draws another part.
    """
    # 15 hexadecimal digits are 60 bits: plenty, and an exact integer everywhere.
    return int(text_digest(f"{purpose}:{normalised(problem.question)}")[:15], 16) % parts == 0
