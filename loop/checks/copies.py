"""Whether the training problems are others than the held-out ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ouroloop.evals.questions import normalised
from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.errors import DataError
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import Setting

NUM_SHOWN = 80
"""Characters of a question that are shown."""


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """One finding: the share of training problems that ask a held-out question, or nearly so."""
    # Everything that may be trained on; a problem may be a demonstration too.
    there = {problem.id: problem for problem in (*setting.problems, *setting.demonstrations)}
    found = list(copies_in(setting, there.values()))
    share = len(found) / max(1, len(there))
    limit = setting.recipe.dataset.max_copies
    if not found:
        what = "no training problem asks a held-out question, in these or in other words"
        return [Finding(Level.OK, "copies", what)]
    problem, question = found[0]
    what = (
        f"{len(found):,} of {len(there):,} training problems ({share:.1%}) are near"
        f" copies of held-out questions, and left out of every training set; {problem.id!r} asks"
        f" {problem.question[:NUM_SHOWN]!r}, held out is {question[:NUM_SHOWN]!r}"
    )
    if share <= limit:
        return [Finding(Level.WARNING, "copies", what)]
    what += (
        f". dataset.max_copies allows {limit:.1%}: split the problems anew, take the copies out, or"
        " raise the limit"
    )
    return [Finding(Level.ERROR, "copies", what)]


def copies_in(setting: Setting, problems: Iterable[Problem]) -> Iterable[tuple[Problem, str]]:
    """The problems that ask a held-out question, each with that question."""
    for problem in problems:
        if normalised(problem.question) in setting.probe_set.heldout:
            yield problem, problem.question
        elif (near := setting.copies.find(problem.question)) is not None:
            yield problem, near


def refuse(setting: Setting) -> None:
    """Refuse to start on problems of which too many are held out.

    Raises:
        DataError: with the sentence of the check.
    """
    for finding in check(setting, Path()):
        if finding.level is Level.ERROR:
            raise DataError(finding.what)
