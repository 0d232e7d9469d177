"""One sample's grade, step check and strategy, behind the per-sample fence.

A reader that raises leaves its value unknown, and the reason is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ouroloop.evals.errors import DataError
from ouroloop.evals.tasks import Grade, Problem, Task
from ouroloop.loop.errors import OuroloopError
from ouroloop.loop.round import Round
from ouroloop.loop.rows import AuditRow, ProbeRow, Verdict
from ouroloop.monitors.fence import Unreadable, attempt

Strategy = Callable[[Problem, str], str | None]

# Errors of the recipe or the installation, raised on purpose; no text is the cause of them.
PASSING = (OuroloopError, DataError)


class Value(StrEnum):
    """What is read from a sample."""

    GRADE = "grade"
    STEPS = "steps"
    STRATEGY = "strategy"


@dataclass(frozen=True)
class Judged:
    """What the readers made of one text.

    A value that could not be read is None, and `unreadable` says why.
    """

    grade: Grade
    valid: bool | None
    strategy: str | None
    unreadable: Mapping[Value, Unreadable]

    @property
    def labels(self) -> list[str]:
        """Each failure as "ValueError in dataflow", for the tables."""
        return [failure.label for failure in self.unreadable.values()]


def judge_text(problem: Problem, text: str, task: Task, strategy: Strategy) -> Judged:
    """Grade, check and name one text. Raises nothing that the text is the cause of.

    Raises:
        OuroloopError, DataError: the run is wrong, not the text (an extra that is not installed,
            strategies not learned yet).
    """
    grade = graded(problem, text, task)
    valid = attempt(f"{task.name} step checker", _valid, problem, text, task, passing=PASSING)
    reader = getattr(strategy, "name", "strategy reader")
    named = attempt(reader, _named, problem, text, strategy, passing=PASSING)
    found = {Value.GRADE: grade, Value.STEPS: valid, Value.STRATEGY: named}
    return Judged(
        grade=Grade(None, None, "unreadable") if isinstance(grade, Unreadable) else grade,
        valid=None if isinstance(valid, Unreadable) else valid,
        strategy=None if isinstance(named, Unreadable) else named,
        unreadable={value: why for value, why in found.items() if isinstance(why, Unreadable)},
    )


def graded(problem: Problem, text: str, task: Task) -> Grade | Unreadable:
    """The grade alone."""
    return attempt(f"{task.name} grader", _grade, problem, text, task, passing=PASSING)


def unreadable(round: Round) -> Iterator[dict[str, Any]]:
    """Per table of the round on which some reader failed: on how many rows, and why."""
    tables: dict[str, Sequence[Verdict | ProbeRow | AuditRow]] = {
        "planted items": round.audit,
        "samples": round.verdicts,
        "probe samples": round.probe,
    }
    for what, rows in tables.items():
        failed = [row.unreadable for row in rows if row.unreadable]
        if failed:
            why = Counter(label for labels in failed for label in labels)
            yield {"what": what, "unreadable": len(failed), "of": len(rows), "why": dict(why)}
    silent = [row for row in round.critics if row.approved is None]
    if silent:
        reasons = {"no verdict in its last line": len(silent)}
        of = len(round.critics)
        yield {"what": "critiques", "unreadable": len(silent), "of": of, "why": reasons}


# A plugin may also return the wrong thing. That is found here, inside the fence, and not when a
# table is written.


def _grade(problem: Problem, text: str, task: Task) -> Grade:
    grade = task.grade(problem, text)
    if not isinstance(grade, Grade):
        raise TypeError(f"expected a Grade, got {type(grade).__name__}")
    return grade


def _valid(problem: Problem, text: str, task: Task) -> bool | None:
    return task.check_steps(problem, text).valid


def _named(problem: Problem, text: str, strategy: Strategy) -> str | None:
    name = strategy(problem, text)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"expected a strategy's name or None, got {type(name).__name__}")
    return name


def as_number(value: bool | None) -> float | None:
    """A verdict as a table holds it: 1 or 0; None stays unknown."""
    return None if value is None else float(value)
