"""Tasks from tables of questions: files in our own fields or GSM8K's, and any data set by columns.

Knows nothing of the loop that trains on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ouroloop.evals.columns import Columns, read_table
from ouroloop.evals.corrupt import corrupt
from ouroloop.evals.errors import DataError
from ouroloop.evals.graders import FinalAnswer
from ouroloop.evals.problem_files import (
    read_gsm8k,
    read_problems,
    text_digest,
)
from ouroloop.evals.questions import normalised
from ouroloop.evals.sources import Source
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

# A source -> its problems.
ReadProblems = Callable[[str | Path | Source], list[Problem]]
# Without a held-out file every fifth problem (by the hash of its question) is held out.
HELDOUT_PART = 5
# Every tenth training problem that has a solution (by hash again) goes to the reserve.
RESERVE_PART = 10


@dataclass(frozen=True)
class JsonlTask:
    """Problems from one or two tables: by default JSONL files in our own fields.

    Every line has a `question`, and optionally `answer`, `id`, `family`, `solution`, `slice`.
    `read` reads another kind of table.

    Splits depend on each question's text alone, not on its place: adding problems moves none.
    `reserve` holds a tenth of the training problems that have solutions. Of two problems with the
    same question (case, space and punctuation aside) the first counts, and a held-out question is
    taken out of training. `grader` reads final answers; where it reads none (`NotScored`), the
    texts count as free text, without numbers or steps.
    """

    path: str | Path | Source
    heldout_path: str | Path | Source | None = None
    name: str = "jsonl"
    prompts: Prompts | None = None
    grader: Grader = field(default_factory=FinalAnswer)
    read: ReadProblems = read_problems

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
        everything = self.read(self.path)
        if self.heldout_path is None:
            heldout = [problem for problem in everything if _part(problem, "heldout", HELDOUT_PART)]
            remedy = "Add problems, or name a file of held-out problems (heldout_path)."
        else:
            heldout = self.read(self.heldout_path)
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


def gsm8k_task(
    path: str | Path, heldout_path: str | Path | None = None, **settings: Any
) -> JsonlTask:
    """A task from files in GSM8K's format.

    `question`, and an `answer` that is a worked solution ending in `#### N`.

    A problem's `solution` is that text without its `<<48/2=24>>` annotations (no model is asked to
    write them) and with its `#### N` line.
    """
    read = partial(read_problems, read_row=read_gsm8k)
    return JsonlTask(path, heldout_path, name="gsm8k", read=read, **settings)


def dataset_task(
    path: str,
    heldout_path: Path | None = None,
    *,
    grader: Grader,
    name: str | None = None,
    split: str = "train",
    heldout_split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> JsonlTask:
    """A task from any data set: a file, a folder of files, or a name of the Hugging Face hub.

    Args:
        path: The file, folder or name.
        heldout_path: A file of held-out problems with the same columns.
        grader: Reads final answers, also those of solutions that come without a column of answers.
        name: The data set's configuration.
        split: The split of training problems.
        heldout_split: The split of held-out ones; None, and no `heldout_path`: a fifth is held out.
        columns: What is read from which column: see `Columns`.
    """
    source = Source(str(path), name, split)
    heldout: str | Path | Source | None = heldout_path
    if heldout_split is not None:
        heldout = Source(str(path), name, heldout_split)

    def read_answer(solution: str) -> str | None:
        # The grader says what a text answers; no gold is needed for that.
        return grader.grade(Problem("", "", None), solution).answer

    def read(given: str | Path | Source) -> list[Problem]:
        return read_table(Source.of(given), Columns(**(columns or {})), read_answer)

    return JsonlTask(source, heldout, name="dataset", grader=grader, read=read)


def _part(problem: Problem, purpose: str, parts: int) -> bool:
    """Whether a problem falls into one of `parts` equal parts, by hash.

    Another purpose draws another part.
    """
    # 15 hexadecimal digits are 60 bits: plenty, and an exact integer everywhere.
    return int(text_digest(f"{purpose}:{normalised(problem.question)}")[:15], 16) % parts == 0
