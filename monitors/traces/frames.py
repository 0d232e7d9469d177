"""Tables of traces, of pandas, polars or pyarrow, as the rows that the reader takes.

None of these is imported: a table is known by its methods, so that whoever has one has its
package, and nobody else needs it. What a column means stands in docs/traces.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ouroloop.monitors.traces.rows import FIELDS, TraceError, guess, round_number

Columns = dict[str, list[Any]]

EXPECTED = (
    "a pandas or polars DataFrame, a pyarrow Table, or a mapping of column names to equally long"
    " sequences"
)
# A wrong name of one of these would leave unmeasured what somebody believes to be measured.
GUESSED = ("problem", "correct", "text", "strategy", "answer", "round")
# Each of them alone shows something; a table without any shows nothing.
MEASURABLE = ("text", "correct", "strategy", "answer", "cluster", "approved", "logprobs", "nll")
OF_THE_PROBLEM = ("family", "slice")
"""Columns that say something of the problem: a later round may leave them to the baseline."""
# A round may say more or less about these without any number changing its meaning.
NOT_COMPARED = ("kept", "round", "question", *OF_THE_PROBLEM)


@dataclass(frozen=True)
class RoundRows:
    """One round of a table.

    Attributes:
        rows: (place for messages, row) pairs, as `TraceReader.read` takes them.
        columns: the fields that the table has a column for.
        digest: of all that the rows say.
        num_problems: how many different ones.
        num_samples: of the problem that has most.
    """

    rows: tuple[tuple[str, dict[str, Any]], ...]
    columns: frozenset[str]
    digest: str
    num_problems: int
    num_samples: int


def rounds_of(frame: Any) -> list[RoundRows]:
    """The rounds of a table in the order of its column `round`; without one, all rows are one.

    Raises:
        TraceError: no table, no rows, or wrong columns.
    """
    columns = columns_of(frame)
    _check_columns(columns)
    num = len(columns["problem"])
    numbers = columns.get("round", [None] * num)
    # As texts, 10 would come before 2.
    if all(isinstance(number, str) for number in numbers):
        numbers = [round_number(number) for number in numbers]
    # A row of no round could belong to any: no guess is made.
    unknown = [row for row, number in enumerate(numbers) if number is None]
    if unknown and len(unknown) < num:
        raise TraceError(
            f"frame row {unknown[0]}: no round, got one in {num - len(unknown):,} of {num:,} rows;"
            " expected a round in every row, or no such column. Fill the column, or drop it."
        )
    by_round: dict[Any, list[int]] = {}
    for row, number in enumerate(numbers):
        by_round.setdefault(number, []).append(row)
    try:
        ordered = sorted(by_round) if not unknown else list(by_round)
    except TypeError:
        kinds = sorted({type(number).__name__ for number in by_round})
        raise TraceError(
            f"round: got values of the kinds {', '.join(kinds)}; expected whole numbers. Convert"
            " the column."
        ) from None
    return [_round(columns, by_round[number]) for number in ordered]


def columns_of(frame: Any) -> Columns:
    """The table's columns as lists of plain Python values; NaN, NA and NaT become None.

    Raises:
        TraceError: no table, or one without rows.
    """
    named = _named(frame)
    found = {str(name): [plain(value) for value in values] for name, values in named.items()}
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise TraceError(f"frame: got columns of lengths {lengths}; expected {EXPECTED}.")
    if not any(lengths.values()):
        raise TraceError(
            f"frame: got no rows (columns {sorted(lengths)}); expected one row per sample."
        )
    return found


def _named(frame: Any) -> Mapping[Any, Sequence[Any]]:
    """Name -> values of each column, by the methods that the table has."""
    # Each package has a method that no other has; the order matters to none of them.
    if isinstance(frame, Mapping):
        return frame
    if hasattr(frame, "to_pydict"):
        return dict(frame.to_pydict())
    if hasattr(frame, "to_dicts"):
        return dict(frame.to_dict(as_series=False))
    names = list(getattr(frame, "columns", ()))
    if not names or not hasattr(frame, "to_dict"):
        hint = ""
        if hasattr(frame, "collect"):
            hint = " Call its collect() first."
        elif isinstance(frame, list | tuple):
            hint = " For rows as dictionaries: pandas.DataFrame(rows)."
        raise TraceError(f"frame: got a {type(frame).__name__}; expected {EXPECTED}.{hint}")
    # Where a name occurs twice, to_dict would keep the last column without a word.
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise TraceError(
            f"frame: got the column {twice[0]!r} twice; expected each name once. Drop or rename one"
            " of them."
        )
    return dict(frame.to_dict("list"))


def plain(value: Any) -> Any:
    """A value as JSON has it: numpy's scalars and arrays as Python's, what is missing as None."""
    # By name, for pandas is not imported: its NA and NaT are singletons of these types.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        # A NaN inside a list stays one: a log-probability that is no number is an error.
        return [x.item() if isinstance(x, np.generic) else x for x in value]
    return value


def _check_columns(columns: Columns) -> None:
    """Refuse a table whose columns would not be read as its author means them."""
    for name in GUESSED:
        hint = None if name in columns else guess(name, columns)
        # A step that is the same in all rows makes no two rounds one.
        if name == "round" and hint is not None and len(set(map(repr, columns[hint]))) == 1:
            continue
        if hint is not None:
            raise TraceError(
                f"frame: no column {name!r}, got {sorted(columns)}; expected the names of"
                f" docs/traces.md. Is it what you call {hint!r}? Rename that, or drop it."
            )
    if "problem" not in columns:
        raise TraceError(
            f"frame: no column 'problem', got {sorted(columns)}; expected"
            f" {FIELDS['problem'].expected}. Number the prompts if they have no ids."
        )
    if not any(name in columns for name in MEASURABLE):
        raise TraceError(
            f"frame: got the columns {sorted(columns)}, which show nothing of the samples; expected"
            f" at least one of {', '.join(MEASURABLE)}. See docs/traces.md."
        )


def _round(columns: Columns, chosen: Sequence[int]) -> RoundRows:
    """Some rows of the table, those of one round."""
    digest = hashlib.sha256()
    rows = []
    for number in chosen:
        row = {name: values[number] for name, values in columns.items()}
        # Without the number of the round: the same samples under another number are no new ones.
        digest.update(repr([(key, row[key]) for key in sorted(row) if key != "round"]).encode())
        rows.append((f"frame row {number}", row))
    for name in OF_THE_PROBLEM:
        if name in columns:
            _refuse_two(name, columns, chosen)
    sizes = Counter(str(row["problem"]) for _, row in rows)
    return RoundRows(
        rows=tuple(rows),
        columns=frozenset(columns) & FIELDS.keys(),
        digest=digest.hexdigest(),
        num_problems=len(sizes),
        num_samples=max(sizes.values()),
    )


def _refuse_two(name: str, columns: Columns, chosen: Sequence[int]) -> None:
    """Refuse a column that says two things of one problem."""
    found: dict[str, Any] = {}
    for row in chosen:
        problem, value = str(columns["problem"][row]), columns[name][row]
        before = found.setdefault(problem, value)
        if before != value:
            raise TraceError(
                f"frame row {row}: {name} of problem {problem!r} is {value!r}, after {before!r};"
                f" expected one {name} for each problem. Name families of different problems"
                " differently, or give the problems ids of their own."
            )


def columns_from_arrays(
    correct: Any,
    strategy: Any = None,
    answer: Any = None,
    *,
    problem: Any = None,
    **others: Any,
) -> Columns:
    """The columns of a table from arrays of shape (problems, samples).

    Args:
        correct: 1, 0 or NaN (unscored), truth values too.
        strategy: names or numbers.
        answer: likewise.
        problem: ids, (problems,); None: 0, 1, ...
        others: further fields of docs/traces.md; `family` and `slice` of shape (problems,).

    Raises:
        TraceError: an array of another shape, or of no known field.
    """
    verdict = _verdicts(correct)
    if unknown := sorted(others.keys() - FIELDS.keys()):
        raise TraceError(
            f"from_arrays: got {unknown[0]!r}; expected fields of docs/traces.md:"
            f" {', '.join(FIELDS)}."
        )
    num_problems, num_samples = verdict.shape
    if problem is not None and len(np.unique(_array("problem", problem, str))) < len(problem):
        raise TraceError(
            "problem: got an id twice; expected one for each row of `correct`, whose columns are"
            " the problem's samples. Give them different ids, or a table to from_frame."
        )
    # The order of the rows names the problems, so that it must be the same in every round.
    ids = np.arange(num_problems) if problem is None else problem
    given = {"correct": correct, "strategy": strategy, "answer": answer, "problem": ids, **others}
    columns: Columns = {}
    for name, values in given.items():
        if values is None:
            continue
        of_problem = name in ("problem", "question", *OF_THE_PROBLEM)
        expected = verdict.shape[:1] if of_problem else verdict.shape
        cells = _cells(name, values, expected)
        columns[name] = list(np.repeat(cells, num_samples)) if of_problem else list(cells.ravel())
    return columns


def _verdicts(correct: Any) -> Any:
    """The array of problems x samples.

    Raises:
        TraceError: it has another shape, or no sample.
    """
    verdict = _array("correct", correct)
    if verdict.ndim == 2 and not verdict.size:
        raise TraceError(
            f"correct: got an array of shape {verdict.shape}, which holds no sample; expected"
            " problems x samples, at least one of each. Were all of them filtered out?"
        )
    if verdict.ndim != 2:
        raise TraceError(
            f"correct: got an array of shape {verdict.shape}; expected two axes, problems x"
            " samples. For one sample of each problem: correct[:, None]."
        )
    return verdict


def _array(name: str, values: Any, dtype: Any = None) -> Any:
    """The values as an array.

    Raises:
        TraceError: its rows are not of one length.
    """
    try:
        return np.asarray(values, dtype=dtype)
    except ValueError:
        raise TraceError(
            f"{name}: got rows of different lengths; expected an array of problems x samples. Fill"
            " up `correct` with NaN, or use from_frame, which takes any number of samples."
        ) from None


def _cells(name: str, values: Any, expected: tuple[int, ...]) -> Any:
    """The values as an array of objects: numbers and texts side by side keep their kinds."""
    cells = _array(name, values, dtype=object)
    if cells.shape[: len(expected)] != expected:
        raise TraceError(
            f"{name}: got an array of shape {cells.shape}; expected {expected}, as `correct` has"
            " problems and samples."
        )
    if cells.shape == expected:
        return cells
    # A list in every cell, such as log-probabilities of equally many tokens.
    nested = np.empty(expected, dtype=object)
    for place in np.ndindex(expected):
        nested[place] = list(cells[place])
    return nested
