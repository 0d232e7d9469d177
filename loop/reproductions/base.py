"""What a reproduction is: a study, what was published, what is asked of the result, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loop.studies.study import Results, Study
from loop.studies.tables import Columns
from monitors.stats import Estimate


@dataclass(frozen=True)
class Goal:
    """One thing that is asked of the result. asks: in words, with the number; met: None where too little is finished to tell."""

    asks: str
    found: Estimate
    met: bool | None
    unit: str = ""

    @classmethod
    def at_least(cls, asks: str, found: Estimate, least: float, unit: str = "") -> Goal:
        """Met when the estimate reaches `least`."""
        return cls(asks, found, None if found.value != found.value else found.value >= least, unit)

    @classmethod
    def above(cls, asks: str, found: Estimate, least: float = 0.0, unit: str = "") -> Goal:
        """Met when the whole interval lies above `least`. Not known without one, and where it has no width: seeds that all agree show no spread."""
        met = None if found.low != found.low else found.low > least
        return cls(asks, found, None if met and found.high - found.low < 1e-9 else met, unit)

    @classmethod
    def not_below(cls, asks: str, found: Estimate, least: float, unit: str = "") -> Goal:
        """Met when the one-sided 95 % limit shows that `least` is reached, not met when the estimate itself is below; between the two not known."""
        shown = found.low == found.low and one_sided_low(found) >= least
        return cls(asks, found, True if shown else None if found.value != found.value or found.value >= least else False, unit)


def one_sided_low(found: Estimate) -> float:
    """The lower 95 % limit that belongs to a two-sided 95 % t interval."""
    from scipy import stats

    freedom = max(1, found.num_clusters - 1)
    return found.value - (found.value - found.low) * float(stats.t.ppf(0.95, freedom) / stats.t.ppf(0.975, freedom))


@dataclass(frozen=True)
class Reproduction:
    """A published system on the small world.

    Attributes:
        study: its arms.
        title, paper, claim: what is reproduced; `paper` with its arXiv number, `claim` in one sentence.
        published: Markdown lines with the published numbers.
        differs: in a sentence or two, what differs here.
        columns: the table's columns.
        goals: what is asked of the result; arms may be missing, then `met` is None.
        draw: the figure, onto a matplotlib Figure; None draws nothing.
        seeds: of the full run.
        notes: Markdown lines under the table, from the results (further tables).
    """

    study: Study
    title: str
    paper: str
    claim: str
    published: Sequence[str]
    differs: str
    columns: Columns
    goals: Callable[[Results], Sequence[Goal]]
    draw: Callable[[Results, Any], None] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    notes: Callable[[Results], Sequence[str]] | None = None


def has(results: Results, *arms: str) -> bool:
    """Whether every arm has at least one finished run."""
    return all(results.get(arm) for arm in arms)
