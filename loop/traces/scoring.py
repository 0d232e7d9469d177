"""How another framework's rewards become verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouroloop.monitors.traces.rows import TraceError

Record = Mapping[str, Any]

# What a log of rewards holds beside them.
NO_REWARDS = frozenset({"step", "gen_step", "advantage", "advantages", "entropy", "idx", "index"})
# How Inspect's scorers write a verdict.
# C correct, I incorrect, N no answer. P, partly correct, is not in it: it stays unknown.
VERDICTS = {"C": True, "I": False, "N": False}


@dataclass(frozen=True)
class Scoring:
    """How a number becomes a verdict.

    Attributes:
        reward: the column that says whether a sample is right; None: the only one there is.
        pass_mark: a sample is right from this value on; None: from 1 on, and a framework may write
            verdicts instead of numbers.
    """

    reward: str | None = None
    pass_mark: float | None = None

    def verdict(self, value: Any) -> bool | None:
        """True, false, or None where it is not known.

        Raises:
            TraceError: a pass mark is given, and the value is a verdict already.
        """
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        # Before the numbers, for Python's truth values are some.
        is_verdict = isinstance(value, bool) or (isinstance(value, str) and value in VERDICTS)
        if is_verdict and self.pass_mark is not None:
            raise TraceError(
                f"--pass-mark {self.pass_mark:g}: got {value!r}, a verdict to which no mark"
                " applies; expected a number. Leave the mark out, or name a reward that is a"
                " number: --reward COLUMN."
            )
        if isinstance(value, str):
            return VERDICTS.get(value)
        if isinstance(value, bool):
            return value
        # NaN: a reward function that had nothing to say.
        if not isinstance(value, int | float) or value != value:
            return None
        return value >= (1.0 if self.pass_mark is None else self.pass_mark)

    def of(self, record: Record, usual: Sequence[str] = ()) -> bool | None:
        """The verdict in a record of named rewards.

        Args:
            record: all its columns.
            usual: what the framework calls it, tried in this order.

        Raises:
            TraceError: several columns may be meant, or the named one is missing.
        """
        if self.reward is not None:
            if self.reward not in record:
                raise TraceError(
                    f"--reward {self.reward}: got columns {listed(record)}; expected one of them."
                )
            return self.verdict(record[self.reward])
        for name in usual:
            if name in record:
                return self.verdict(record[name])
        found = [name for name, value in record.items() if _is_reward(name, value)]
        if len(found) > 1:
            raise TraceError(
                f"several rewards: got {', '.join(found)}; expected the one that says whether a"
                f" sample is right. Name it: --reward {found[0]}."
            )
        return self.verdict(record[found[0]]) if found else None


def _is_reward(name: str, value: Any) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    is_number = isinstance(value, int | float)
    return name not in NO_REWARDS and is_number


def listed(record: Record) -> str:
    """The names of a record's columns."""
    return ", ".join(sorted(map(str, record))) or "none"
