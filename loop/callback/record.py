"""The measurements of one training: judged, kept in a folder, and read back after an interruption.

What `CollapseMonitor` knows of models and trainers is not needed here.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DataError
from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.views.monitor import judged_json
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.follower import Follower, Judged
from ouroloop.monitors.traces.files import read_file
from ouroloop.monitors.traces.reader import TraceReader, main_family
from ouroloop.monitors.traces.rows import TraceError

DECISIONS = "decisions.jsonl"

_log = logging.getLogger(__name__)


class Record:
    """Judges one measurement after the other, the first of them as the baseline.

    In `folder` lie a file of rows per measurement (what `ouroloop monitor` reads) and
    decisions.jsonl.
    """

    def __init__(self, rule: DecisionRule, strategies: str | None) -> None:
        self.rule = rule
        self.reader, self.follower = TraceReader(strategies), Follower(rule)

    def copy(self) -> Record:
        """As it is now, to go back to when a measurement fails half-way.

        The rows of the baseline are shared: nobody changes them, and they may be many.
        """
        other = copy.copy(self)
        other.reader = copy.deepcopy(self.reader)
        follower = self.follower
        other.follower = replace(follower, history=[*follower.history], later_=[*follower.later_])
        return other

    def judge(self, folder: Path, step: int, rows: Sequence[Mapping[str, Any]]) -> Judged:
        """Judge the rows, then keep them and the decision.

        Raises:
            DataError: a row is wrong, or holds what JSON cannot.
        """
        # Through JSON and back: what is judged now is what `ouroloop monitor` will read.
        lines = [json.dumps(row, default=_plain) for row in rows]
        named = (
            (f"sample() at step {step}, row {i}", json.loads(line))
            for i, line in enumerate(lines, start=1)
        )
        try:
            view = self.reader.read(named)
            # The most common family of the baseline, for the whole training.
            if not self.follower.rule.main_family:
                self.follower.rule = replace(self.rule, main_family=main_family(view))
            judged = self.follower.judge(view)
        except TraceError as error:
            raise DataError(str(error)) from error
        for note in self.reader.unreadable_notes():
            _log.warning("collapse monitor: %s", note)
        folder.mkdir(parents=True, exist_ok=True)
        # At once: an interrupted write must not look like a measurement of fewer rows.
        write_text(_rows_file(folder, step), "".join(line + "\n" for line in lines))
        _append(folder, {"step": step, **judged_json(judged)})
        return judged

    def skip(self, folder: Path, step: int, error: Exception) -> None:
        """Keep that this step was not measured, and why."""
        folder.mkdir(parents=True, exist_ok=True)
        _append(folder, {"step": step, "not_measured": f"{type(error).__name__}: {error}"})

    def read_back(self, folder: Path, step: int) -> list[int]:
        """Continue from the files of an interrupted training; returns the steps that they hold.

        Files of later steps are removed: they belong to a training that did not go on. At step 0 a
        new training begins, so that all are removed.
        """
        file = folder / DECISIONS
        known = [row for _, row in read_file(file)] if file.is_file() else []
        kept = [row for row in known if row["step"] <= step] if step else []
        measured = [row for row in kept if "not_measured" not in row]
        wanted = {_rows_file(folder, row["step"]) for row in measured}
        for old in folder.glob("step-*.jsonl"):
            if old not in wanted:
                old.unlink()
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        if measured:
            self._restore(folder, measured)
        return [row["step"] for row in kept]

    def _restore(self, folder: Path, measured: Sequence[Mapping[str, Any]]) -> None:
        """The baseline from its rows, everything since from the decisions alone."""
        baseline = self.reader.read(read_file(_rows_file(folder, measured[0]["step"])))
        # The reader counts the rounds by this list; what they held is not needed again.
        self.reader.rounds_ += [None] * (len(measured) - 1)
        self.follower.reference = baseline
        family = self.rule.main_family or main_family(baseline)
        self.follower.rule = replace(self.rule, main_family=family)
        self.follower.history = [Decision.from_json(row) for row in measured]


def free_name(folder: Path) -> Path:
    """A name beside the folder that nothing has yet: files that cannot be read are kept there."""
    for number in itertools.count(1):
        name = folder.with_name(f"{folder.name}-unread-{number}")
        if not name.exists():
            return name
    raise AssertionError("unreachable: count() does not end")


def _rows_file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.jsonl"


def _append(folder: Path, row: Mapping[str, Any]) -> None:
    """One line more in decisions.jsonl."""
    with (folder / DECISIONS).open("a", encoding="utf-8") as decisions:
        decisions.write(json.dumps(row) + "\n")


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise DataError(
        f"sample(): a row holds a {type(value).__name__}; expected texts, numbers, truth values,"
        " lists or None, as in docs/traces.md."
    )
