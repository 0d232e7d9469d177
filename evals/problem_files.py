"""From rows to problems.

Every complaint says file:line, what it got, what it expected and what to do.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ouroloop.evals.conversations import read_conversation
from ouroloop.evals.errors import DataError
from ouroloop.evals.questions import normalised
from ouroloop.evals.sources import SAMPLE, Source, read_rows
from ouroloop.evals.tasks import Problem
from ouroloop.monitors.arith.answers import canonical
from ouroloop.monitors.estimators.estimand import RESERVED
from ouroloop.monitors.fence import well_formed

# A row and its place ("file:line") -> a problem.
ReadRow = Callable[[Mapping[str, Any], str], Problem]


class Worked(NamedTuple):
    """A worked solution and the final answer that it states."""

    solution: str
    answer: str


def read_demonstrations(path: Path) -> list[Problem]:
    """Read a JSONL file of solved problems; a question may come with several solutions.

    A line has a `question` and a `solution`, or a conversation in `messages` that ends in one.

    Raises:
        DataError: the file is missing or empty, or a line has no `solution`.
    """
    found = []
    for where, row in read_rows(path):
        problem = _demonstration(row, where)
        if problem.solution is None:
            raise DataError(
                f"{where}: no field 'solution', got {sorted(row)}; expected a demonstration, such"
                ' as {"question": "What is 2+3?", "solution": "2+3 = 5. The answer is 5."}.'
            )
        # Lines may share an id, a file of several solutions often does.
        found.append(problem)
    if not found:
        raise DataError(f"{path}: the file holds no demonstrations; expected one object per line.")
    return found


def _demonstration(row: Mapping[str, Any], where: str) -> Problem:
    if "messages" not in row or "question" in row:
        return read_problem(row, where)
    spoken = read_conversation(row["messages"], "messages", where)
    said = {key: getattr(spoken, key) for key in ("question", "solution", "system")}
    # Fields of their own come before what is said in the conversation.
    rest = {key: value for key, value in row.items() if key != "messages"}
    return replace(read_problem({**said, **rest}, where), messages=spoken.messages)


def read_problem(row: Mapping[str, Any], where: str) -> Problem:
    """A problem from a row with `question`, `answer` and the like.

    Fields of other names become its metadata.

    Raises:
        DataError: a field is missing or of the wrong kind.
    """
    question = _text(row, "question", where)
    if question is None:
        raise DataError(
            f"{where}: no field 'question', got {sorted(row)}; expected one object per line, such"
            f" as {SAMPLE}. Conversations and other columns are read by task.kind: dataset."
        )
    place = _text(row, "slice", where) or "typical"
    if place not in ("typical", "tail"):
        raise DataError(
            f"{where}: field 'slice' is {place!r}; expected 'typical' or 'tail' (hard problems). "
            "Drop the field if you do not use it."
        )
    answer = _text(row, "answer", where)
    if answer is not None and canonical(answer) is None:
        raise DataError(
            f"{where}: answer {answer[:60]!r} cannot be read by the grader; expected a number, a"
            " short text or an expression."
        )
    family = _text(row, "family", where) or "default"
    check_family(family, f"{where}: field 'family'")
    known = ("id", "question", "answer", "family", "slice", "solution", "system")
    return Problem(
        id=_text(row, "id", where) or question_id(question),
        question=question,
        answer=answer,
        family=family,
        slice=place,
        solution=_text(row, "solution", where),
        # Blank is the usual way to write that there is none.
        system=_text(row, "system", where) if row.get("system") else None,
        metadata={key: value for key, value in row.items() if key not in known},
    )


def check_family(name: str, where: str) -> None:
    """Refuse what no family can be called.

    Raises:
        DataError: the name stands for several families.
    """
    if name in RESERVED:
        raise DataError(
            f"{where} is {name!r}; expected a name other than"
            f" {' and '.join(map(repr, sorted(RESERVED)))}, which stand for several families"
            " together. Rename the family."
        )


def read_problems(source: str | Path | Source, read_row: ReadRow = read_problem) -> list[Problem]:
    """Read every row of a source as a problem; blank lines are skipped.

    Raises: DataError: the file is missing, holds no problem, or has a bad line; the message names
        file:line.
    """
    return unique(((where, read_row(row, where)) for where, row in read_rows(source)), source)


def unique(problems: Iterable[tuple[str, Problem]], source: str | Path | Source) -> list[Problem]:
    """Problems with their places; of those with the same question the first is kept.

    Raises: DataError: there is none, or an id belongs to two questions.
    """
    by_question: dict[str, Problem] = {}
    by_id: dict[str, str] = {}
    for where, problem in problems:
        if normalised(problem.question) in by_question:
            continue
        if problem.id in by_id:
            raise DataError(
                f"{where}: id {problem.id!r} belongs to another question already"
                f" ({by_id[problem.id]}). Ids must be unique; drop the field to have one made."
            )
        by_question[normalised(problem.question)] = problem
        by_id[problem.id] = where
    if not by_question:
        raise DataError(
            f"{source}: the file holds no problems; expected one JSON object per line, such as"
            f" {SAMPLE}."
        )
    return list(by_question.values())


def read_gsm8k(row: Mapping[str, Any], where: str) -> Problem:
    """A problem from a GSM8K row.

    Raises:
        DataError: a field is missing, or the answer does not end in `#### N`.
    """
    text = _text(row, "answer", where)
    if text is None:
        raise DataError(
            f"{where}: no field 'answer', got {sorted(row)}; expected GSM8K's 'question' and"
            " 'answer'. Use task.kind: jsonl for problems without answers."
        )
    worked = worked_answer(text)
    if worked is None:
        raise DataError(
            f"{where}: field 'answer' ends in {text[-40:]!r}; expected a last line '#### N'. "
            "Use task.kind: jsonl when it is the bare answer."
        )
    return read_problem(
        # A row's own family wins; its answer and solution are replaced.
        {"family": "gsm8k", **row, "answer": worked.answer, "solution": worked.solution},
        where,
    )


def worked_answer(text: str) -> Worked | None:
    """A solution in GSM8K's format without its `<<48/2=24>>` annotations, and its answer.

    None: it does not end in `#### N`.
    """
    # From the right: a solution may hold the mark as well.
    solution, mark, gold = text.rpartition("####")
    if not mark or not gold.strip():
        return None
    plain = re.sub(r"<<[^<>\n]*>>", "", solution).rstrip()
    return Worked(f"{plain}\n#### {gold.strip()}", gold.strip())


def question_id(question: str) -> str:
    """A stable id from a question's normalised text: 16 hexadecimal digits."""
    return text_digest(normalised(question))[:16]


def text_digest(text: str) -> str:
    """SHA-256 in hexadecimal: the one hash behind ids and splits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """A field as text; numbers are spelt, null and absent are None.

    Raises:
        DataError: the field is empty or neither text nor a number.
    """
    value = row.get(name)
    if value is None:
        return None
    # bool is an int in Python, and "True" is nobody's answer.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(
            f"{where}: field {name!r} is a {type(value).__name__} ({str(value)[:40]!r}); expected"
            " text or a number."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"{where}: field {name!r} is {value}; expected text or a finite number. Write null"
            " where there is none."
        )
    if not str(value).strip():
        raise DataError(
            f"{where}: field {name!r} is empty; expected text. Leave the field out when there is"
            " none."
        )
    return well_formed(str(value))
