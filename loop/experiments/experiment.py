"""What an experiment is: a study, what was published, what is asked of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results, Study
from ouroloop.loop.experiments.tables import Columns, last

# The table of a study that names no columns of its own.
COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "pass@k": (last("pass_k"), "%"),
    "distinct-correct-pair probability": (last("dcp"), "%"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
}


def _no_goals(results: Results) -> Sequence[Goal]:
    return ()


@dataclass(frozen=True)
class Experiment:
    """A study with everything that its page says. Only the study is required.

    Attributes:
        study: the arms.
        title: of the page; the study's name where it is empty.
        paper: what is reproduced, with its arXiv number; empty for a study of our own.
        claim: in one sentence, what is to be seen.
        published: Markdown lines with the published numbers.
        differs: in a sentence or two, what differs from the published setting.
        columns: of the table of arms.
        goals: what is asked of the results; where arms are missing, `met` is None.
        draw: draws the figure onto a matplotlib Figure; None: no figure.
        seeds: of the full run.
        notes: Markdown lines under the table, from the results (further tables).
    """

    study: Study
    title: str = ""
    paper: str = ""
    claim: str = ""
    published: Sequence[str] = ()
    differs: str = ""
    columns: Columns = field(default_factory=lambda: COLUMNS)
    goals: Callable[[Results], Sequence[Goal]] = _no_goals
    draw: Callable[[Results, Any], None] | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    notes: Callable[[Results], Sequence[str]] | None = None


def has(results: Results, *arms: str) -> bool:
    """Whether every arm has at least one finished run."""
    return all(results.get(arm) for arm in arms)
