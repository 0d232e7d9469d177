"""Which numbers stand first, in tables, on the page and in trackers.

Those of right answers where the probe set has gold answers; where nobody scores, the frozen judge's
approvals and how alike the responses are.
"""

from __future__ import annotations

from collections.abc import Iterable

from ouroloop.loop.views.measures import BY_KEY, Measure
from ouroloop.loop.views.reader import RunData
from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import EVERY, Estimand

APPROVED = "responses/approved_"
"""What the statistics of the frozen judge's approvals begin with; a criterion follows."""
NUM_HEADLINES = 10
SCORED = (
    "pass@1",
    "maj@k",
    "pass@k",
    "dcp",
    "ways",
    "rare",
    "overconfidence",
    "trace_entropy",
    "let_in",
    "yield",
)
"""Measures of a run whose probe set has gold answers."""
FREE = (
    "apart",
    "length",
    "trace_entropy",
    "text_entropy",
    "text_nll",
    "critic",
    "let_in",
    "yield",
)
"""Measures of a run whose answers nobody scores, after the frozen judge's approvals."""

# Columns of the rounds table.
SCORED_TABLE = ("pass@1", "greedy", "maj@k", "dcp", "ways", "trace_entropy", "overconfidence")
FREE_TABLE = ("apart", "trace_entropy", "length", "text_nll")
NUM_APPROVALS = 3
"""Approvals that a table has room for: a constitution may have dozens of principles."""


def is_scored(run: RunData) -> bool:
    """Whether the probe set has gold answers.

    Round 0 decides for the whole run: a chart that begins later looks as if something happened.
    """
    return not run.rounds or BY_KEY["pass@1"].read(run.rounds[0]).defined


def headline_measures(run: RunData) -> tuple[Measure, ...]:
    """At most `NUM_HEADLINES` measures, the same in every round of a run."""
    if is_scored(run):
        return tuple(BY_KEY[key] for key in SCORED)
    free = [BY_KEY[key] for key in FREE]
    return (*approvals(run)[: NUM_HEADLINES - len(free)], *free)


def table_measures(run: RunData) -> tuple[Measure, ...]:
    """The measures of the rounds table, the first with its interval."""
    if is_scored(run):
        return tuple(BY_KEY[key] for key in SCORED_TABLE)
    return (*approvals(run)[:NUM_APPROVALS], *(BY_KEY[key] for key in FREE_TABLE))


def approvals(run: RunData) -> list[Measure]:
    """The frozen judge's approval of all families together, one measure for each criterion."""
    asked = approved_in(run.rounds[0].readings) if run.rounds else []
    return [Measure(estimand.id, estimand) for estimand in asked]


def approved_in(readings: Iterable[Reading]) -> list[Estimand]:
    """What a frozen judge's approvals of all families are called in a round."""
    all_families = (r.estimand for r in readings if r.estimand.family == EVERY)
    return list(dict.fromkeys(e for e in all_families if e.statistic.startswith(APPROVED)))
