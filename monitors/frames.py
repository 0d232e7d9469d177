"""The monitors for a notebook: tables or arrays of samples in, readings and decisions out.

    monitor = from_frame(round_0)               # the baseline round
    judged = monitor.judge(round_1)             # fresh samples of the same problems
    judged.decision.action, judged.decision.reasons

docs/notebooks/monitors.ipynb is an example that a test runs.
"""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass, field, replace
from typing import Any

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.follower import Follower, Judged, trace_monitors
from ouroloop.monitors.metrics.readings import most_samples
from ouroloop.monitors.traces.files import ascending
from ouroloop.monitors.traces.frames import (
    NOT_COMPARED,
    RoundRows,
    columns_from_arrays,
    rounds_of,
)
from ouroloop.monitors.traces.reader import TWIN, TraceReader, main_family
from ouroloop.monitors.traces.rows import TraceError

# Statistics of k samples take eight, as everywhere in the project, where there are so many.
SAMPLES = 8


@dataclass
class TraceMonitor:
    """Judges round after round of somebody's loop, the first one being the baseline.

    As in `ouroloop monitor`, decisions are only recorded, so that the evidence of all rounds adds
    up. A call that raises leaves the monitor as it was: the cell can be corrected and run again.

    Attributes:
        rule: the decision rule; without a main family, that of most problems.
        reader: names strategies and answers, as chosen at the baseline.
        samples: k of statistics of k samples; no more than the smallest round has.
        rounds: what was judged so far, the baseline first.
    """

    rule: DecisionRule
    reader: TraceReader = field(default_factory=TraceReader)
    samples: int = SAMPLES
    rounds: list[Judged] = field(default_factory=list)
    # With an underscore, as in scikit-learn: learnt from the rounds, not given.
    follower_: Follower | None = None
    baseline_: RoundRows | None = None
    seen_: dict[str, int] = field(default_factory=dict)

    def judge(self, frame: Any) -> Judged:
        """Judge the next round.

        Args:
            frame: a table of one round, with the columns of docs/traces.md.

        Raises:
            TraceError: the table cannot be read, or does not go with the baseline.
        """
        found = rounds_of(frame)
        if len(found) > 1:
            raise TraceError(
                f"judge: got a frame of {len(found)} rounds; expected one round. Give it the rows"
                " of one round after the other, or all rounds to from_frame."
            )
        return self._judge(found[0])

    def judge_arrays(self, correct: Any, strategy: Any = None, **others: Any) -> Judged:
        """Judge the next round from arrays, as `from_arrays` takes them.

        Raises:
            TraceError: an array has another shape, or does not go with the baseline.
        """
        if self.baseline_ is not None and others.get("problem") is None:
            num = self.baseline_.num_problems
            if len(correct) != num:
                raise TraceError(
                    f"correct: got {len(correct):,} problems; expected the baseline's {num:,}, in"
                    " the same order. Otherwise name them by `problem`, in every round."
                )
        return self.judge(columns_from_arrays(correct, strategy, **others))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was missing, and how it was filled: warnings first."""
        numbers = [number for number in self.reader.rounds_ if number is not None]
        counted = []
        if len(numbers) > 1 and numbers != list(range(len(numbers))):
            listed = ", ".join(f"{number:g}" for number in numbers)
            counted = [f"rounds {listed} are counted as 0 to {len(numbers) - 1}, in this order"]
        judged = (note for judged in self.rounds for note in judged.notes)
        return (*self.reader.notes(), *counted, *judged)

    def readings(self) -> list[dict[str, Any]]:
        """A row for each round and reading: `pandas.DataFrame(monitor.readings())` is a table."""
        out = []
        for judged in self.rounds:
            for reading in judged.readings:
                row = reading.to_json()
                del row["details"]
                out.append({"round": judged.decision.round, **row})
        return out

    def decisions(self) -> list[dict[str, Any]]:
        """A row for each round: its action, failure mode, first reason, and each tier's evidence.

        Evidence is the logarithm of an e-value; its tier acts from `..._limit` on.
        """
        out = []
        for judged in self.rounds:
            decision = judged.decision
            row: dict[str, Any] = {
                "round": decision.round,
                "action": str(decision.action),
                "failure_mode": str(decision.mode) if decision.mode else None,
                "reason": decision.reasons[0],
            }
            for tier, evidence in decision.evidence.items():
                row[f"{tier}_log_e"] = evidence.log_e
                row[f"{tier}_limit"] = evidence.log_limit
            out.append(row)
        return out

    def __str__(self) -> str:
        """A line for each round."""
        rows = self.decisions()
        lines = [f"round {row['round']}: {row['action']} - {row['reason']}" for row in rows]
        return "\n".join(lines) or "no round judged yet"

    def _judge(self, given: RoundRows) -> Judged:
        number = len(self.rounds)
        self._check_columns(given, number)
        # On a copy, so that a wrong row leaves what was read before as it was.
        reader = copy.deepcopy(self.reader)
        view = reader.read(given.rows)
        # Evidence multiplies over rounds: the same samples twice would count twice.
        twin = self.seen_.get(given.digest)
        if twin is not None and not reader.collapsed_:
            raise TraceError(
                f"round {number}: the same rows as round {twin}; expected fresh samples in every"
                " round. Was a cell run twice? Make the monitor anew to begin again."
            )
        ascending(
            reader.rounds_[-2:],
            [f"round {number - 1}", f"round {number}"][-len(reader.rounds_) :],
            "`round` column",
            "Judge them in order, or make the monitor anew.",
        )
        if twin is not None:
            reader.warnings_.append(
                f"WARNING: round {number} has the same rows as round {twin}{TWIN}"
            )
        follower = self.follower_ or self._begun(view)
        judged = follower.judge(view)
        # All that can raise lies above: from here on the monitor changes as a whole.
        self.reader, self.follower_ = reader, follower
        # Its rows are in the follower's view; only its columns and its size are needed here.
        self.baseline_ = self.baseline_ or replace(given, rows=())
        self.seen_[given.digest] = number
        self.rounds.append(judged)
        return judged

    def _begun(self, view: RoundView) -> Follower:
        """What judges the rounds, from the baseline on."""
        families = sorted(set(view.probe.family))
        family = self.rule.main_family or main_family(view)
        if family not in families:
            near = difflib.get_close_matches(family, families, n=1) or [", ".join(families)]
            raise TraceError(
                f"main_family: got {family!r}; expected a family of the baseline, such as"
                f" {near[0]}. Without main_family that of most problems is taken."
            )
        self.rule = replace(self.rule, main_family=family)
        # k of over-confidence and maj@k; a number that a round does not have would be undefined.
        num_samples = min(self.samples, max(1, most_samples(view.probe)))
        return Follower(self.rule, trace_monitors(self.rule, num_samples))

    def _check_columns(self, given: RoundRows, number: int) -> None:
        """Refuse a round without a column that the baseline has."""
        if self.baseline_ is None:
            return
        # Of a round without strategies every sample would seem to take the same one.
        if missing := sorted(self.baseline_.columns - given.columns - {*NOT_COMPARED}):
            raise TraceError(
                f"round {number}: no column {missing[0]!r}, which round 0 has; expected the same"
                " columns in every round, or the number would change its meaning. Add it, or leave"
                " it out of round 0 too."
            )


def from_frame(
    frame: Any,
    rule: DecisionRule | None = None,
    *,
    main_family: str = "",
    strategies: str | None = None,
    samples: int = SAMPLES,
) -> TraceMonitor:
    """A monitor whose baseline is the table's first round; further rounds in it are judged too.

    Args:
        frame: a pandas or polars DataFrame, a pyarrow Table, or a mapping of columns: one row a
            sample, with the columns of docs/traces.md. Missing values may be None, NaN or NA. A
            column `round` says which rows are whose; without it all rows are the baseline.
        rule: the decision rule; None: its defaults, over 20 rounds.
        main_family: the family that is practised; by default that of most problems.
        strategies: how strategies are named from texts; None: the column `strategy`, else
            "operators".
        samples: k of statistics of k samples, at most.

    Raises:
        TraceError: the table or the family is wrong: where, got, expected, remedy.
    """
    found = rounds_of(frame)
    monitor = _monitor(rule, main_family, strategies, samples)
    # Of all rounds in the table: with another k in each round the numbers could not be compared.
    monitor.samples = min(samples, *(given.num_samples for given in found))
    for given in found:
        monitor._judge(given)
    return monitor


def from_arrays(
    correct: Any,
    strategy: Any = None,
    rule: DecisionRule | None = None,
    *,
    main_family: str = "",
    strategies: str | None = None,
    samples: int = SAMPLES,
    **others: Any,
) -> TraceMonitor:
    """A monitor whose baseline is given as arrays; `judge_arrays` takes the later rounds.

    Args:
        correct: (problems, samples): 1, 0, truth values, or NaN for unscored.
        strategy: (problems, samples): names or numbers; None or NaN: not known.
        rule: the decision rule; None: its defaults, over 20 rounds.
        main_family: as in `from_frame`; likewise `strategies` and `samples`.
        strategies: see `main_family`.
        samples: see `main_family`.
        others: further fields of docs/traces.md, such as `answer`; `problem` (ids; without it all
            rounds have the same problems in the same order), `family`, `slice` and `question` of
            shape (problems,).

    Raises:
        TraceError: an array has another shape, or the family is wrong.
    """
    monitor = _monitor(rule, main_family, strategies, samples)
    monitor.judge_arrays(correct, strategy, **others)
    return monitor


def _monitor(
    rule: DecisionRule | None, main_family: str, strategies: str | None, samples: int
) -> TraceMonitor:
    if not isinstance(rule, DecisionRule | None):
        raise TraceError(
            f"rule: got {rule!r}; expected a DecisionRule, such as DecisionRule('', rounds=20)."
            " Leave it out for its defaults; a family goes into main_family."
        )
    if samples < 1:
        raise TraceError(
            f"samples: got {samples}; expected at least 1, the k of statistics of k samples. Leave"
            f" it out for {SAMPLES}."
        )
    rule = rule or DecisionRule("")
    if main_family:
        rule = replace(rule, main_family=main_family)
    return TraceMonitor(rule, TraceReader(strategies), samples)
