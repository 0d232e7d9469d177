"""Traces of anybody's loop as the views that monitors read; knows nothing of a loop.

One file per round, one sample per row. The first is the baseline: it decides whether strategies and
answers are the rows' own or are read from the texts, for all files alike.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.fence import Unreadable, attempt
from ouroloop.monitors.strategies.strategy import CANONICALISERS
from ouroloop.monitors.strategies.templates import Templates
from ouroloop.monitors.traces.baseline import few_samples, gold_answers, is_collapsed
from ouroloop.monitors.traces.clusters import TraceClusters
from ouroloop.monitors.traces.files import RowsOf, ascending, number_in, read_file, same_round
from ouroloop.monitors.traces.kept import KeptViews
from ouroloop.monitors.traces.problems import OfProblems
from ouroloop.monitors.traces.rows import (
    FIELDS,
    OFTEN,
    QUIET,
    REPEATED,
    SAMPLE,
    TraceError,
    name_of,
    read_row,
)
from ouroloop.monitors.traces.views import view_of

# `TraceError` is part of this module's promise.
__all__ = ["TraceError", "TraceReader", "Traces", "main_family", "read_traces"]

TEMPLATES = "templates"
TEXTS = "every text its own strategy"
TWIN = (
    ": all samples of each problem are one text, as after a total collapse, so it is judged as a"
    " round of its own. Was it copied by mistake?"
)
"""What is said of a round whose rows another round has, where a collapse explains that."""


@dataclass(frozen=True)
class Traces:
    """What was read.

    Attributes:
        views: the rounds in order.
        sources: where each comes from.
        notes: what has to be said about them.
        num_samples: that every round has of at least one problem.
        numbers: what a table, or a framework's steps, call the rounds; empty: they have no other
            numbers than their places.
    """

    views: Sequence[RoundView]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    num_samples: int
    numbers: tuple[int, ...] = ()


@dataclass
class TraceReader:
    """Makes a view of each round's rows, the baseline first, and remembers what was missing.

    Attributes:
        strategies: a name in `CANONICALISERS`; "templates", fitted on the baseline's texts; "none";
            or None for the rows' own `strategy` if the baseline has any, else "operators".
        clusters: response clusters, where they are wanted.
        templates_: what names strategies by templates, fitted at the baseline.
        named_by_: what names the strategies, chosen at the baseline.
        answers_by_: where answers come from, likewise.
        problems_: what the baseline says of its problems.
        rounds_: the number that each round's rows give.
        per_problem_: mean samples of a problem in each round.
        most_: samples of the problem that has most, in each round.
        collapsed_: all texts of each problem of the latest round are one.
        lines_: rows so far.
        without_: field -> rows without it.
        unread_: unknown field -> rows with it.
        unreadable_: "ValueError in dataflow" -> texts on which that reader failed.
        warnings_: sentences.
    """

    strategies: str | None = None
    clusters: TraceClusters = field(default_factory=TraceClusters)
    templates_: Templates = field(default_factory=Templates)
    named_by_: str = ""
    answers_by_: str = ""
    problems_: OfProblems = field(default_factory=OfProblems)
    rounds_: list[float | None] = field(default_factory=list)
    per_problem_: list[float] = field(default_factory=list)
    most_: list[int] = field(default_factory=list)
    collapsed_: bool = False
    lines_: int = 0
    without_: Counter[str] = field(default_factory=Counter)
    unread_: Counter[str] = field(default_factory=Counter)
    unreadable_: Counter[str] = field(default_factory=Counter)
    warnings_: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Checked here and not at the first row: a typo should cost no reading of files.
        known = (*CANONICALISERS, TEMPLATES, "none")
        if self.strategies is not None and self.strategies not in known:
            raise TraceError(
                f"strategies: got {self.strategies!r}; expected one of {', '.join(known)}. Leave it"
                " out for the rows' own."
            )

    def read(self, rows: Iterable[tuple[str, Any]], source: str = "") -> RoundView:
        """The next round's view, from (place, row) pairs; a place is for messages, "file:line".

        Args:
            rows: the pairs.
            source: where they come from, for the message that there are none.

        Raises:
            TraceError: a bad row, or none at all.
        """
        columns: dict[str, list[Any]] = {name: [] for name in FIELDS}
        appends = [column.append for column in columns.values()]
        # Counted by us: the rows' own `round` may start anywhere, and may be missing.
        number = len(self.rounds_)
        # One string for all rows that say the same: every line of a file makes its own anew, and a
        # million of them are a third of a GiB.
        seen: dict[str, str] = {}
        for where, raw in rows:
            row = read_row(raw, where)
            same_round(columns["round"], row["round"], where)
            self.problems_.complete(row, number, where)
            for name in REPEATED:
                if (value := row[name]) is not None:
                    row[name] = seen.setdefault(value, value)
            for append, value in zip(appends, row.values(), strict=True):
                append(value)
            if not raw.keys() <= FIELDS.keys():
                self.unread_.update(raw.keys() - FIELDS.keys())
        if not columns["problem"]:
            raise TraceError(
                f"{source or f'round {number}'} has no rows; expected one sample per row, such as"
                f" {SAMPLE}."
            )
        self.rounds_.append(columns["round"][0])
        self.collapsed_ = is_collapsed(columns)
        self._count(columns)
        # The choice is made once, so that all rounds are named alike.
        if number == 0:
            self._choose(columns)
            self.warnings_ += self.clusters.choose(columns)
        self._name(columns)
        self.clusters.label(columns)
        view = view_of(number, columns)
        if number == 0:
            view = self.clusters.measured(view)
        num_P = Counter(view.probe.problem).values()
        self.per_problem_.append(sum(num_P) / len(num_P))
        self.most_.append(max(num_P))
        return view

    def notes(self) -> tuple[str, ...]:
        """Warnings, then one sentence per field that rows lack, then what was not read."""
        out = list(self.warnings_)
        for name, number in self.without_.items():
            where = f"{number:,} of {self.lines_:,} lines"
            if number == self.lines_:
                where = f"all {self.lines_:,} lines"
            out.append(f"missing: {name} in {where} ({self._meaning(name)})")
        out += self.unreadable_notes()
        if self.unread_:
            out.append(f"not read: {', '.join(sorted(map(self._guessed, self.unread_)))}")
        return tuple(out)

    def _guessed(self, key: str) -> str:
        """A field that was not read, with the field that it may be."""
        if not key.strip():
            return "a column without a name"
        field_name = OFTEN.get(key)
        # A guess only where that field is missing altogether: else the file knows its name.
        if field_name is None or self.without_[field_name] != self.lines_:
            return key
        return f"{key} (is it {field_name}?)"

    def traces(self, views: Sequence[RoundView], names: Sequence[str]) -> Traces:
        """The views that were read, from where, and what has to be said about them."""
        notes = (*self.notes(), *few_samples(self.per_problem_))
        return Traces(views, tuple(names), notes, min(self.most_))

    def unreadable_notes(self) -> list[str]:
        """One sentence per kind of failure of a strategy or answer reader, in all rounds so far."""
        return [
            f"unreadable: {number:,} of {self.lines_:,} texts ({label}); they have no such value"
            for label, number in self.unreadable_.items()
        ]

    def _meaning(self, name: str) -> str:
        if name == "strategy" and self.named_by_ == "none":
            return "diversity is not measured"
        if name == "strategy" and self.named_by_ == TEXTS:
            return "every text counts as its own"
        if name == "strategy" and self.named_by_ != "strategy":
            return f"named by {self.named_by_!r} from the texts"
        if name == "answer" and self.answers_by_ == "text":
            return "the final answers are read from the texts"
        return FIELDS[name.split(" ")[0]].without

    def _count(self, columns: Mapping[str, list[Any]]) -> None:
        self.lines_ += len(columns["problem"])
        for name in (n for n in FIELDS if n not in QUIET):
            # Either of two fields gives the log-probabilities; `read_row` has turned one into nll.
            column, shown = name, name
            if name == "logprobs":
                column, shown = "nll", "logprobs or nll"
            if missing := columns[column].count(None):
                self.without_[shown] += missing

    def _choose(self, columns: dict[str, list[Any]]) -> None:
        """By the baseline: where strategies and answers come from in every round."""
        self.answers_by_ = "answer" if any(a is not None for a in columns["answer"]) else "text"
        if self.answers_by_ == "answer":
            self.warnings_ += gold_answers(columns)
        # A file's own names are what its author means by a strategy; ours are a guess.
        own = any(s is not None for s in columns["strategy"])
        if self.strategies is None and own:
            self.named_by_ = "strategy"
            return
        self.named_by_ = self.strategies or "operators"
        num_texts = len(columns["text"]) - columns["text"].count(None)
        if self.named_by_ == "none" or not num_texts:
            self.named_by_ = "none"
            return
        if self.named_by_ == TEMPLATES:
            self._fit_templates(columns)
        columns["strategy"] = self._named(columns)
        found = len(columns["strategy"]) - columns["strategy"].count(None)
        if not found:
            self.warnings_.append(
                f"WARNING: {self.named_by_!r} names none of round 0's {num_texts:,} texts, so"
                f" {TEXTS}: diversity means different wording. Give a `strategy` field, or choose"
                " --strategies."
            )
            self.named_by_ = TEXTS
        elif found < num_texts / 2:
            self.warnings_.append(
                f"WARNING: {self.named_by_!r} names only {found:,} of round 0's {num_texts:,}"
                " texts; the others count as one strategy of their own."
            )

    def _name(self, columns: dict[str, list[Any]]) -> None:
        """Strategies and answers by the baseline's choice; its own were named with that choice."""
        if self.answers_by_ == "text":
            columns["answer"] = self._read_texts("answer", columns)
        if self.named_by_ == TEXTS:
            columns["strategy"] = [None if t is None else name_of(t) for t in columns["text"]]
        elif self.named_by_ == "none":
            columns["strategy"] = [None] * len(columns["text"])
        elif self.named_by_ != "strategy" and len(self.rounds_) > 1:
            columns["strategy"] = self._named(columns)

    def _fit_templates(self, columns: Mapping[str, list[Any]]) -> None:
        texts = [
            (q or "", t) for q, t in zip(columns["question"], columns["text"], strict=True) if t
        ]
        try:
            self.templates_.fit([question for question, _ in texts], [text for _, text in texts])
        except ValueError as error:
            self.warnings_.append(f"WARNING: {error}.")

    def _named(self, columns: Mapping[str, list[Any]]) -> list[str | None]:
        """Each text's strategy by the chosen canonicaliser."""
        return self._read_texts(self.named_by_, columns)

    def _read_texts(self, canonicaliser: str, columns: Mapping[str, list[Any]]) -> list[str | None]:
        """What a canonicaliser reads from each text; None without one, and where it fails."""
        reader = CANONICALISERS.get(canonicaliser, self.templates_)
        if reader is self.templates_ and not self.templates_.is_fitted_:
            return [None] * len(columns["text"])
        found: list[str | None] = []
        for question, text in zip(columns["question"], columns["text"], strict=True):
            read = None if text is None else attempt(canonicaliser, reader, question or "", text)
            # Counted, and then as if there were no text: one hostile text ends nobody's run.
            if isinstance(read, Unreadable):
                self.unreadable_[read.label] += 1
                read = None
            found.append(read)
        return found


def read_traces(
    paths: Sequence[Path | str],
    strategies: str | None = None,
    keep_order: bool = False,
    clusters: TraceClusters | None = None,
    rows_of: RowsOf = read_file,
) -> Traces:
    """Read one file per round, the baseline first.

    Args:
        paths: files that `rows_of` reads.
        strategies: see `TraceReader`.
        keep_order: do not complain when file names or `round` fields run backwards.
        clusters: see `TraceReader`; None: its default.
        rows_of: reads a file; `read_file`: of JSONL.

    Raises:
        TraceError: a missing, empty, repeated or misplaced file, or a bad line: "file:line: got;
            expected; remedy".
    """
    if not (names := [str(path) for path in paths]):
        raise TraceError("no traces; expected one file per round, the baseline first.")
    if not keep_order:
        ascending([number_in(name) for name in names], names, "numbers in the file names")
    reader, views = TraceReader(strategies, clusters or TraceClusters()), KeptViews()
    # A copied file would be a round without a change. By number: one file that is given twice has
    # one name.
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        digest = hashlib.sha256()
        views.append(reader.read(rows_of(name, digest), name))
        twin = seen.setdefault(digest.hexdigest(), number)
        if twin == number:
            continue
        if not reader.collapsed_:
            raise TraceError(
                f"{name}: byte for byte the same as {names[twin]}; expected one file per round. Was"
                " it copied by mistake? If the model did answer so twice, write all rounds into one"
                " file with a column `round`."
            )
        reader.warnings_.append(f"WARNING: {name} is byte for byte the same as {names[twin]}{TWIN}")
    if not keep_order:
        ascending(reader.rounds_, names, "`round` fields")
    return reader.traces(views, names)


def main_family(view: RoundView) -> str:
    """The family of most problems (of equals the first by name)."""
    families = dict(zip(view.probe.problem, view.probe.family, strict=True))
    counted = Counter(families.values())
    return str(min(counted, key=lambda family: (-counted[family], family)))
