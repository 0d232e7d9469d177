"""What can be seen of a data set before any recipe is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

from ouroloop.evals import sources
from ouroloop.evals.columns import guessed
from ouroloop.evals.errors import DataError as TaskDataError
from ouroloop.evals.problem_files import worked_answer
from ouroloop.evals.registry import build_task
from ouroloop.evals.sources import Row, read_rows
from ouroloop.evals.tasks import Problem
from ouroloop.loop.checks.lengths import Counter
from ouroloop.loop.errors import DataError
from ouroloop.loop.recipes.recipe_file import data_path
from ouroloop.monitors.arith.answers import canonical, is_number

LONG_ANSWER = 12
"""Words: a column of answers longer than that in the middle holds solutions."""
MOST = 0.9
"""Answers are numbers where so many of them are."""
# A mark in most solutions -> how to ask for it.
ENDINGS = {
    "\\boxed": r"Put the final answer in \boxed{}.",
    "####": "End with a line that says: #### X",
}
USUAL_ENDING = "End with a line that says: The answer is X."
_SYMBOLS = re.compile(r"\\[a-zA-Z]|\^|[a-z]\s*[+*/=-]|[+*/=-]\s*[a-z]")


# `path`, and where given `name`, `split`, `heldout_split`: keys of a recipe's task.
Source = Mapping[str, str]


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        columns: What is read from which column.
        grader: The grader that can read its answers; `none` where there are no answers.
        num_problems: All, those kept in reserve for replay and the audit among them.
        num_repeated: Rows that ask what an earlier row asks, and are left out; not counted where
            held-out problems have a split of their own.
        num_train: Training problems.
        num_heldout: Held-out problems.
        num_answers: Training problems with a gold answer.
        num_solutions: Training problems with a worked solution.
        num_conversations: Training problems that are conversations of several turns.
        numeric: The share of the answers that are numbers.
        question_tokens: The longest question.
        solution_tokens: A long solution (nine of ten are shorter); 0 where there is none.
        ending: What to ask for, so that an answer can be read; in the solutions' own way.
    """

    columns: Mapping[str, str]
    grader: str
    num_problems: int
    num_repeated: int
    num_train: int
    num_heldout: int
    num_answers: int
    num_solutions: int
    num_conversations: int
    numeric: float
    question_tokens: int
    solution_tokens: int
    ending: str


def look(source: Source, given: Mapping[str, str], model: Path) -> Survey:
    """Read the data once.

    Args:
        source: The data; paths are relative to the working directory.
        given: Columns that the user named; the others are guessed by their usual names.
        model: The checkpoint's folder; its tokenizer counts.

    Raises:
        DataError: the data cannot be read, or a column is not there.
    """
    located = {**source, "path": str(data_path(source["path"], Path.cwd()))}
    keys = ("path", "name", "split")
    try:
        table = sources.Source(**{key: located[key] for key in keys if key in located})
        rows = [row for _, row in read_rows(table)]
        columns = _columns(rows, given)
        # With the strictest reader: what it finds in solutions are surely answers.
        task = build_task("dataset", {**located, "columns": columns, "grader": "final_answer"})
        train, heldout = task.problems("train"), task.problems("heldout")
    except TaskDataError as error:
        raise DataError(str(error)) from error
    grader = _grader([*train, *heldout], columns)
    counter = Counter.of(model)
    solutions = [problem.solution for problem in train if problem.solution]
    num_problems = len(train) + len(heldout) + len(task.problems("reserve"))
    return Survey(
        columns=columns,
        grader=grader,
        num_problems=num_problems,
        num_repeated=0 if "heldout_split" in located else len(rows) - num_problems,
        num_train=len(train),
        num_heldout=len(heldout),
        num_answers=sum(problem.answer is not None for problem in train),
        num_solutions=len(solutions),
        num_conversations=sum(bool(problem.messages) for problem in train),
        numeric=_numeric(train),
        question_tokens=max(counter.count([problem.question for problem in train])),
        solution_tokens=_long(counter.count(solutions)),
        ending=_ending(solutions),
    )


def _refuse_absent(columns: Mapping[str, str], there: Collection[str]) -> None:
    """Refuse what the recipe would be refused for, by the names of the command's own options."""
    # Without a row that is what is wrong, and it is said elsewhere.
    if not there:
        return
    listed = ", ".join(sorted(there))
    for name, column in columns.items():
        if column not in there:
            near = get_close_matches(column, there, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"init: no column {column!r}, which --{name} names; the columns are {listed}.{hint}"
            )
    if not {"question", "messages"} & columns.keys():
        raise DataError(
            "init: no column 'question' or 'messages', nor one that is often called so; the"
            f" columns are {listed}. Name the one that holds the questions: --question COLUMN, or"
            " --messages COLUMN of conversations."
        )


def _columns(rows: Sequence[Row], given: Mapping[str, str]) -> dict[str, str]:
    """The columns that the user named, and the likely ones."""
    there = {column for row in rows for column in row}
    likely = guessed(there - set(given.values())).to_json()
    # Either conversations or questions: what the user named decides.
    if "question" in given:
        likely.pop("messages", None)
    if "messages" in given or ("messages" in likely and "question" not in given):
        likely.pop("question", None)
    # A wrong id or family would be refused or mislead; a wrong guess of these two brings nothing.
    for name in ("id", "family"):
        likely.pop(name, None)
    columns = {**likely, **given}
    _refuse_absent(columns, there)
    if (
        "answer" in columns
        and "solution" not in columns
        and _are_solutions(rows, columns["answer"])
    ):
        columns["solution"] = columns.pop("answer")
    return columns


def _are_solutions(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds long texts without GSM8K's mark of an answer."""
    texts = [str(row[column]) for row in rows if row.get(column) is not None]
    if not texts or worked_answer(texts[0]):
        return False
    # The median: a few remarks among short answers do not make them solutions.
    return median(len(text.split()) for text in texts) > LONG_ANSWER


def _grader(problems: Sequence[Problem], columns: Mapping[str, str]) -> str:
    """Who can read the answers."""
    # Where most problems lack an answer, a filter on gold answers would throw most samples away.
    golds = [problem.answer for problem in problems if problem.answer is not None]
    if len(golds) < len(problems) / 2:
        return "none"
    if _numeric(problems) >= MOST and "answer" in columns:
        # Models that were asked for no special ending still end in the number, nearly always.
        return "last_number"
    symbols = sum(bool(_SYMBOLS.search(gold)) for gold in golds) / len(golds)
    if symbols > 1 - MOST and find_spec("math_verify"):
        return "symbolic"
    return "final_answer"


def _numeric(problems: Sequence[Problem]) -> float:
    """The share of the gold answers that are numbers."""
    golds = [problem.answer for problem in problems if problem.answer is not None]
    if not golds:
        return 0.0
    return sum(is_number(canonical(gold) or "") for gold in golds) / len(golds)


def _ending(solutions: Sequence[str]) -> str:
    for mark, ending in ENDINGS.items():
        if sum(mark in solution for solution in solutions) > len(solutions) / 2:
            return ending
    return USUAL_ENDING


def _long(tokens: Sequence[int]) -> int:
    """The length that nine of ten do not reach."""
    # Twice the list: quantiles need at least two values.
    return round(quantiles([*tokens, *tokens], n=10)[-1]) if tokens else 0
