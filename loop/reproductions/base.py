"""What a reproduction is: a study, what was published, what is asked of the result.

And how it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results, Study
from ouroloop.loop.experiments.tables import Columns


@dataclass(frozen=True)
class Reproduction:
    """A published system on the small world.

    Attributes: study: its arms. title, paper, claim: what is reproduced; `paper` with its arXiv
        number, `claim` in one sentence. published: Markdown lines with the published numbers.
        differs: in a sentence or two, what differs here. columns: the table's columns. goals: what
        is asked of the result; arms may be missing, then `met` is None. draw: the figure, onto a
        matplotlib Figure; None draws nothing. seeds: of the full run, as many as end within three
        quarters of an hour on two cores. notes: Markdown lines under the table, from the results
        (further tables).
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
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    notes: Callable[[Results], Sequence[str]] | None = None


def has(results: Results, *arms: str) -> bool:
    """Whether every arm has at least one finished run."""
    return all(results.get(arm) for arm in arms)
