"""Reading problems out of JSONL files.

Every complaint says file:line, what it got, what it expected and what to do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ouroloop.evals.errors import DataError
from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Problem
from ouroloop.monitors.arith.answers import canonical
from ouroloop.monitors.fence import well_formed

# One JSON object and its place ("file:line") -> a problem.
ReadRow = Callable[[Mapping[str, Any], str], Problem]

_SAMPLE = '{"question": "What is 2+3?", "answer": "5"}'


def read_problems(path: Path, read_row: ReadRow) -> list[Problem]:
    """Read a JSONL file; blank lines are skipped.

    Of problems with the same question the first is kept.

    Raises: DataError: the file is missing, holds no problem, or has a bad line; the message names
        file:line.
    """
    by_question: dict[str, Problem] = {}
    by_id: dict[str, str] = {}
    for where, row in _rows(path):
        problem = read_row(row, where)
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
            f"{path}: the file holds no problems; expected one JSON object per line, such as"
            f" {_SAMPLE}."
        )
    return list(by_question.values())


def read_demonstrations(path: Path) -> list[Problem]:
    """Read a JSONL file of solved problems; a question may come with several solutions.

    Raises:
        DataError: the file is missing or empty, or a line has no `solution`.
    """
    found = []
    for where, row in _rows(path):
        problem = read_problem(row, where)
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
            f" as {_SAMPLE}."
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
    known = ("id", "question", "answer", "family", "slice", "solution")
    return Problem(
        id=_text(row, "id", where) or question_id(question),
        question=question,
        answer=answer,
        family=_text(row, "family", where) or "default",
        slice=place,
        solution=_text(row, "solution", where),
        metadata={key: value for key, value in row.items() if key not in known},
    )


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
    # From the right: a solution may hold the mark as well.
    solution, mark, gold = text.rpartition("####")
    if not mark or not gold.strip():
        raise DataError(
            f"{where}: field 'answer' ends in {text[-40:]!r}; expected a last line '#### N'. "
            "Use task.kind: jsonl when it is the bare answer."
        )
    written = re.sub(r"<<[^<>\n]*>>", "", solution).rstrip() + f"\n#### {gold.strip()}"
    return read_problem(
        # A row's own family wins; its answer and solution are replaced.
        {"family": "gsm8k", **row, "answer": gold.strip(), "solution": written},
        where,
    )


def question_id(question: str) -> str:
    """A stable id from a question's normalised text: 16 hexadecimal digits."""
    return text_digest(normalised(question))[:16]


def text_digest(text: str) -> str:
    """SHA-256 in hexadecimal: the one hash behind ids and splits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file with their places."""
    try:
        # "utf-8-sig" drops the mark that Windows editors put first. Only "\n" ends a line: JSON
        # strings may hold U+2028, which splitlines would break.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; expected a JSONL file of problems. Paths in a recipe are"
            " relative to the recipe."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text (byte {error.start}); expected a JSONL file. Convert it, e.g."
            " with iconv -t UTF-8."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a JSONL file of problems."
        ) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        # A line of 100,000 brackets is data too.
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            raise DataError(
                f"{where}: not JSON ({error}), got {line[:60]!r}; expected one object per line,"
                f" such as {_SAMPLE}."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{where}: got a JSON {type(row).__name__}; expected an object, such as {_SAMPLE}."
            )
        yield where, row


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
    if not str(value).strip():
        raise DataError(
            f"{where}: field {name!r} is empty; expected text. Leave the field out when there is"
            " none."
        )
    return well_formed(str(value))
