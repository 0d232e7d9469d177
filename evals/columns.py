"""Which columns of a table hold what: named in the recipe, or found by their usual names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from typing import Any

from ouroloop.evals.conversations import read_conversation
from ouroloop.evals.errors import DataError
from ouroloop.evals.problem_files import read_problem, unique, worked_answer
from ouroloop.evals.sources import Row, Source, read_rows
from ouroloop.evals.tasks import Problem, Turn

# The answer that a worked solution states, or None: a grader's reading.
ReadAnswer = Callable[[str], str | None]

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "instruction", "input", "query"),
    "answer": ("answer", "final_answer", "expected_answer", "target", "label", "output"),
    "solution": ("solution", "rationale", "explanation", "cot", "response"),
    "messages": ("messages", "conversation", "conversations"),
    "system": ("system", "system_prompt"),
    "id": ("id", "problem_id", "uid"),
    "family": ("family", "subject", "category", "type"),
}
"""What people call these columns, the likeliest name first. Only a guess: `ouroloop init` makes it,
and an error message may propose it."""


@dataclass(frozen=True)
class Columns:
    """The column that holds each thing; None: the column of that very name, where there is one.

    `messages` holds conversations and stands for question and solution.
    """

    question: str | None = None
    answer: str | None = None
    solution: str | None = None
    messages: str | None = None
    id: str | None = None
    family: str | None = None
    slice: str | None = None
    system: str | None = None

    def to_json(self) -> dict[str, str]:
        """Those that are named."""
        return {name: column for name, column in vars(self).items() if column is not None}

    def found_in(self, there: Collection[str], where: str) -> Columns:
        """These columns with the unnamed ones found in a table that has the columns `there`.

        Raises:
            DataError: a named column is not there, or nothing says where the questions are.
        """
        named = self.to_json()
        for name, column in named.items():
            if column not in there:
                raise DataError(
                    f"{where}: no column {column!r}, which task.columns.{name} names; the columns"
                    f" are {', '.join(sorted(there))}.{_proposal(name, column, there)}"
                )
        # A table of conversations may hold a column `question` too: what is named comes first.
        asked = {"question", "messages"} & set(named)
        rest = [f.name for f in fields_of(self) if f.name in there and f.name not in named]
        if asked or "question" in rest:
            rest = [name for name in rest if name not in ("question", "messages")]
            if not asked:
                rest.append("question")
        found = Columns(**named, **{name: name for name in rest})
        if found.question is None and found.messages is None:
            guess = guessed(there).to_json()
            proposal = ", ".join(f"{name}: {column}" for name, column in guess.items())
            hint = f" Perhaps `columns: {{{proposal}}}`." if guess else ""
            raise DataError(
                f"{where}: no column 'question' or 'messages'; the columns are"
                f" {', '.join(sorted(there))}. Name the one that holds the questions in"
                f" task.columns.{hint}"
            )
        return found


def _proposal(name: str, column: str, there: Collection[str]) -> str:
    """The column that was probably meant: of nearly that name, or of the usual one."""
    near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
    usual = guessed(there).to_json().get(name)
    meant = near[0] if near else usual
    return f" Did you mean {meant!r}?" if meant else ""


def guessed(there: Collection[str]) -> Columns:
    """Columns by their usual names, in any case of letters; a conversation before a question."""
    spelt = {column.casefold(): column for column in there}
    found = {}
    for name, usual in USUAL_NAMES.items():
        known = [spelt[one] for one in usual if one in spelt]
        if known:
            found[name] = known[0]
    if "messages" in found:
        found.pop("question", None)
        found.pop("solution", None)
    return Columns(**found)


def read_table(source: Source, columns: Columns, read_answer: ReadAnswer) -> list[Problem]:
    """The problems of a table, by its columns.

    An answer that ends in GSM8K's `#### N` is a worked solution: N is the answer. Without a column
    of answers, the answer is what `read_answer` reads in the solution. Ids that were not asked for
    and are not unique are made from the questions.

    Raises:
        DataError: a column or a text is missing or of the wrong kind; the message names the place.
    """
    rows = list(read_rows(source))
    there = {column for _, row in rows for column in row}
    if not rows:
        raise DataError(f"{source}: no rows; expected one problem a row.")
    found = columns.found_in(there, str(source))
    if found.id and not columns.id:
        ids = [row.get(found.id) for _, row in rows]
        if len({str(one) for one in ids}) < len(ids):
            found = Columns(**{**found.to_json(), "id": None})
    return unique(_problems(rows, found, read_answer), source)


def _problems(
    rows: Iterable[tuple[str, Row]], columns: Columns, read_answer: ReadAnswer
) -> Iterator[tuple[str, Problem]]:
    for where, row in rows:
        fields = _standard(row, columns, where)
        messages: tuple[Turn, ...] = ()
        if columns.messages:
            spoken = read_conversation(row.get(columns.messages), columns.messages, where)
            # Columns of their own come before what is said in the conversation.
            fields = {"solution": spoken.solution, "system": spoken.system} | fields
            fields["question"], messages = spoken.question, spoken.messages
        _split_answer(fields, columns, read_answer)
        yield where, replace(read_problem(fields, where), messages=messages)


def _standard(row: Row, columns: Columns, where: str) -> dict[str, Any]:
    """A row in Ouroloop's own fields; columns without a meaning stay beside them."""
    used = columns.to_json()
    out = {name: value for name, value in row.items() if name not in used.values()}
    # A column of another meaning that has the name of a field is not that field.
    for name in (*used, "question", "answer", "solution", "id", "family", "slice", "system"):
        out.pop(name, None)
    out |= {name: _filled(row.get(column)) for name, column in used.items() if name != "messages"}
    if columns.question and out["question"] is None:
        raise DataError(
            f"{where}: column {columns.question!r} is empty; expected the text of a question."
            " Remove the row, or name another column in task.columns."
        )
    return out


def _split_answer(fields: dict[str, Any], columns: Columns, read_answer: ReadAnswer) -> None:
    """The final answer out of a worked one, or out of the solution where there is no other."""
    answer, solution = fields.get("answer"), fields.get("solution")
    if isinstance(answer, str) and (worked := worked_answer(answer)):
        fields["solution"], fields["answer"] = solution or worked.solution, worked.answer
    elif columns.answer is None and isinstance(solution, str):
        fields["answer"] = read_answer(solution)


def _filled(value: Any) -> Any:
    """A cell; a blank text is none: tables write missing values so."""
    return None if isinstance(value, str) and not value.strip() else value
