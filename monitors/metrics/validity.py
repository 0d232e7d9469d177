"""Validity of traces: right answers reached through a wrong step, and traces cut by length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.estimators.scores import codes
from ouroloop.monitors.estimators.stats import Estimate, share
from ouroloop.monitors.metrics.readings import by_family, reading


@dataclass(frozen=True)
class Validity:
    """Shares of bad traces, [0, 1], down. Ratios of counts, clustered by problem.

    * validity/right_wrong_step: of the right answers whose steps could be checked, the share with a
      wrong step (unfaithful).
    * validity/wrong_step: the same among all checked traces.
    * validity/truncated: share of traces cut by length.

    Undefined when nothing could be checked. Measured (MONITORS.md, V2): the intervals held the
    truth in 96 to 97 % of 400 panels of 120 problems x 8, in 97 to 98 % of 40 x 8. Source: Lightman
    et al. 2305.20050 (right answers through wrong steps); Zelikman et al. 2203.14465 keep such
    traces.
    """

    name: str = "validity"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        probe = view.probe
        checked = probe.where(np.isfinite(probe.valid))
        right = checked.where(checked.correct == 1)
        known = probe.where(np.isfinite(probe.truncated))
        return [
            reading(
                "validity/right_wrong_step",
                wrong_step(right),
                "share",
                "down",
                "no right panel answer has checkable steps",
                {"families": by_family(right, wrong_step)},
            ),
            reading(
                "validity/wrong_step",
                wrong_step(checked),
                "share",
                "down",
                "no panel sample has checkable steps",
                {"families": by_family(checked, wrong_step)},
            ),
            reading(
                "validity/truncated",
                truncated(known),
                "share",
                "down",
                "no panel sample says whether it was cut",
                {"families": by_family(known, truncated)},
            ),
        ]


def wrong_step(rows: Samples) -> Estimate:
    """Share of rows with valid == 0."""
    return _share(rows, (rows.valid == 0).astype(float))


def truncated(rows: Samples) -> Estimate:
    """Share of rows cut by length."""
    return _share(rows, rows.truncated)


def _share(rows: Samples, hit_N: Floats) -> Estimate:
    problem_N = codes(rows.problem)[1]
    return share(np.bincount(problem_N, weights=hit_N), np.bincount(problem_N))
