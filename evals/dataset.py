"""Tasks from tables of problems: files in our own fields or GSM8K's, and any data set by columns.

Knows nothing of the loop that trains on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ouroloop.evals.columns import Columns, read_table
from ouroloop.evals.corrupt import corrupt
from ouroloop.evals.errors import DataError
from ouroloop.evals.graders import FinalAnswer
from ouroloop.evals.problem_files import (
    check_family,
    question_id,
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
# Without a held-out file a fifth of the problems (by the hash of the question) is held out.
HELDOUT_PART = 5
# Every tenth training problem that has a solution (by hash again) goes to the reserve.
RESERVE_PART = 10


@dataclass(frozen=True)
class Table:
    """One file, folder or data set of problems, and what of it is held out.

    Attributes:
        path: Where its problems are.
        heldout_path: Where held-out ones of their own are; None: a share is split off by hash.
        read: Reads both; by default a file in our own fields.
        family: The family of all its problems; None: that of each row.
        heldout_share: How much is split off, 0 to 1. A share of 1 is measured and never trained on.
        num_problems: Use at most so many that are not held out, the first ones.
    """

    path: str | Path | Source
    heldout_path: str | Path | Source | None = None
    read: ReadProblems = read_problems
    family: str | None = None
    heldout_share: float = 1 / HELDOUT_PART
    num_problems: int | None = None

    def split(self) -> tuple[list[Problem], list[Problem]]:
        """(training problems, held-out ones), both in file order."""
        everything = self._problems(self.path)
        if self.heldout_path is not None:
            return everything, self._problems(self.heldout_path)
        heldout = [problem for problem in everything if self._is_held_out(problem)]
        return [problem for problem in everything if not self._is_held_out(problem)], heldout

    def _problems(self, path: str | Path | Source) -> list[Problem]:
        found = self.read(path)
        if self.family is None:
            return found
        check_family(self.family, f"{path}: the family")
        return [replace(problem, family=self.family) for problem in found]

    def _is_held_out(self, problem: Problem) -> bool:
        # The place of a question in [0, 1). Its first fifth is what hash % 5 == 0 is, which is what
        # runs have always held out; within it the rest of the hash decides.
        rest, part = divmod(_hash(problem, "heldout"), HELDOUT_PART)
        place = (part + rest % 10**9 / 10**9) / HELDOUT_PART
        return place < self.heldout_share


@dataclass(frozen=True)
class DatasetTask:
    """Problems from one or several tables.

    Splits depend on each question's text alone, not on its place: adding problems moves none.
    `reserve` holds a tenth of the training problems that have solutions. Of two problems with the
    same question (case, space and punctuation aside) the first counts, and a held-out question is
    taken out of training, whichever table it is in. `grader` reads final answers, and scores what
    has a gold answer; where it reads none (`NotScored`), the texts count as free text, without
    numbers or steps.
    """

    tables: Sequence[Table]
    name: str = "jsonl"
    prompts: Prompts | None = None
    grader: Grader = field(default_factory=FinalAnswer)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the grader; one of somebody's own may leave them out."""
        plain = WORKED_SOLUTIONS if self.grader.reads_answers else frozenset()
        return frozenset(getattr(self.grader, "capabilities", plain))

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split in the tables' order; the splits are disjoint by question.

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
        split_T = [table.split() for table in self.tables]
        heldout = self._with_ids(_first_of_each(heldout for _, heldout in split_T))
        # Held-out problems win: what they ask is taken out of training, however it is spelt.
        held = {normalised(problem.question) for problem in heldout}
        rest: list[list[Problem]] = []
        for table, (train, _) in zip(self.tables, split_T, strict=True):
            unseen = [problem for problem in train if normalised(problem.question) not in held]
            rest.append(unseen[: table.num_problems])
        free = self._with_ids(_first_of_each(rest), {problem.id for problem in heldout})
        # Only what has a solution can be a demonstration.
        reserve = [
            problem
            for problem in free
            if problem.solution and _hash(problem, "reserve") % RESERVE_PART == 0
        ]
        drawn = {problem.id for problem in reserve}
        train = [problem for problem in free if problem.id not in drawn]
        if not heldout or not train:
            self._refuse_empty(split_T, len(train), len(heldout))
        return {"train": train, "heldout": heldout, "reserve": reserve}

    def _with_ids(self, problems: list[Problem], taken: Iterable[str] = ()) -> list[Problem]:
        """The problems, each with an id of its own.

        Raises:
            DataError: two files of one table use an id for two questions.
        """
        ids = set(taken)
        found = []
        for problem in problems:
            if problem.id in ids:
                if len(self.tables) == 1:
                    raise DataError(
                        f"{self.tables[0].path} and {self.tables[0].heldout_path}: id"
                        f" {problem.id!r} names different questions in the two files; expected ids"
                        " unique over both. Drop the field 'id' to have ids made."
                    )
                # Several files were numbered each by itself; what a question asks is its own.
                problem = replace(problem, id=question_id(problem.question))
            ids.add(problem.id)
            found.append(problem)
        return found

    def _refuse_empty(
        self, split_T: Sequence[tuple[list[Problem], list[Problem]]], train: int, heldout: int
    ) -> None:
        total = sum(len(problems) for problems, _ in split_T)
        remedy = "The file of training problems must hold others than the held-out file."
        if all(table.heldout_path is None for table in self.tables):
            total += heldout
            remedy = "Add problems, or name a file of held-out problems (heldout_path)."
        places = ", ".join(str(table.path) for table in self.tables)
        raise DataError(
            f"{places}: {total} problems give {train} for training and {heldout} held out; expected"
            f" at least 1 of each. {remedy}"
        )


def _first_of_each(tables: Iterable[Sequence[Problem]]) -> list[Problem]:
    """All problems, of those with the same question the first."""
    by_question: dict[str, Problem] = {}
    for problems in tables:
        for problem in problems:
            by_question.setdefault(normalised(problem.question), problem)
    return list(by_question.values())


def _hash(problem: Problem, purpose: str) -> int:
    """A number that depends on the question alone; another purpose draws another one."""
    # 15 hexadecimal digits are 60 bits: plenty, and an exact integer everywhere.
    return int(text_digest(f"{purpose}:{normalised(problem.question)}")[:15], 16)


def jsonl_task(
    path: str | Path | Source,
    heldout_path: str | Path | Source | None = None,
    *,
    read: ReadProblems = read_problems,
    **settings: Any,
) -> DatasetTask:
    """A task from files in our own fields.

    Every row has a `question`, and optionally `answer`, `id`, `family`, `solution`, `slice`.
    """
    return DatasetTask([Table(path, heldout_path, read)], **settings)


def gsm8k_task(
    path: str | Path, heldout_path: str | Path | None = None, **settings: Any
) -> DatasetTask:
    """A task from files in GSM8K's format.

    `question`, and an `answer` that is a worked solution ending in `#### N`.

    A problem's `solution` is that text without its `<<48/2=24>>` annotations (no model is asked to
    write them) and with its `#### N` line.
    """
    read = partial(read_problems, read_row=read_gsm8k)
    return jsonl_task(path, heldout_path, read=read, name="gsm8k", **settings)


def dataset_task(
    path: str | None = None,
    heldout_path: Path | None = None,
    *,
    grader: Grader,
    sources: Sequence[Mapping[str, Any]] = (),
    **table: Any,
) -> DatasetTask:
    """A task from any data sets: files, folders of files, or names of the Hugging Face hub.

    Args:
        path: The only one; None: see `sources`.
        heldout_path: A file of held-out problems with the same columns.
        grader: Reads final answers, also those of solutions that come without a column of answers.
        sources: Several of them, each with the keys that follow and those of `Table`.
        table: `name`, `split`, `heldout_split` and `columns`, as `dataset_table` takes them.
    """
    # One table is a list of one: what follows knows no difference.
    if path is not None:
        sources = [{"path": path, "heldout_path": heldout_path, **table}]
    return DatasetTask(
        [dataset_table(grader=grader, **source) for source in sources], "dataset", grader=grader
    )


def dataset_table(
    path: str,
    heldout_path: Path | None = None,
    *,
    grader: Grader,
    name: str | None = None,
    split: str = "train",
    heldout_split: str | None = None,
    columns: Mapping[str, str] | None = None,
    **settings: Any,
) -> Table:
    """One of a task's data sets.

    Args:
        path: The file, folder or name.
        heldout_path: A file of held-out problems with the same columns.
        grader: Reads the answers of solutions that come without a column of answers.
        name: The data set's configuration.
        split: The split of training problems.
        heldout_split: The split of held-out ones; None, and no `heldout_path`: a share is held out.
        columns: What is read from which column: see `Columns`.
        settings: `family`, `heldout_share` and `num_problems` of `Table`.
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

    return Table(source, heldout, read, **settings)
