"""Validity of traces: right answers reached through a wrong step, and traces cut by length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import scored
from ouroloop.monitors.estimators.stats import Estimate, mean_in_unit, share
from ouroloop.monitors.metrics.readings import Kind, by_family, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("validity/right_wrong_step"): ("share", "down"),
    Estimand("validity/wrong_step"): ("share", "down"),
    Estimand("validity/truncated"): ("share", "down"),
    Estimand("validity/unscored"): ("share", "down"),
}
RIGHT_WRONG_STEP, WRONG_STEP, TRUNCATED, UNSCORED = KINDS


@dataclass(frozen=True)
class Validity:
    """Shares of bad traces, [0, 1], down. Ratios of counts, clustered by problem.

    * validity/right_wrong_step: of the right answers whose steps could be checked, the share with a
      wrong step (unfaithful).
    * validity/wrong_step: the same among all checked traces.
    * validity/truncated: share of traces cut by length.
    * validity/unscored: mean over problems of the share of samples whose answer was not judged, for
      problems that had a judged sample at round 0; what the decision rule guards. Accuracy leaves
      such samples out, so rows that turn from wrong to unscored would hide a collapse.

    Undefined when nothing could be checked. Measured (docs/validation/index.md, V2): the intervals
    held the truth in 96 to 97 % of 400 probe sets of 120 problems x 8, in 97 to 98 % of 40 x 8.
    Source: Lightman et al. 2305.20050 (right answers through wrong steps); Zelikman et al.
    2203.14465 keep such traces.
    """

    name: str = "validity"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; of round 0 only which problems were scored."""
        probe = view.probe
        checked = probe.where(np.isfinite(probe.valid))
        right = checked.where(checked.correct == 1)
        # Each share is over the rows of which it is known: unknown is neither good nor bad.
        known = probe.where(np.isfinite(probe.truncated))
        parts = (
            (RIGHT_WRONG_STEP, right, wrong_step, "no right probe answer has checkable steps"),
            (WRONG_STEP, checked, wrong_step, "no probe sample has checkable steps"),
            (TRUNCATED, known, truncated, "no probe sample says whether it was cut"),
        )
        lost = unscored(probe, probe if reference is None else reference.probe)
        return [
            *(
                reading(name, of(rows), "share", "down", why, {"families": by_family(rows, of)})
                for name, rows, of, why in parts
            ),
            reading(UNSCORED, lost, "share", "down", "no sample was scored at round 0"),
        ]


def wrong_step(rows: Samples) -> Estimate:
    """Share of rows with valid == 0."""
    return _share(rows, (rows.valid == 0).astype(float))


def truncated(rows: Samples) -> Estimate:
    """Share of rows cut by length."""
    return _share(rows, rows.truncated)


def unscored(rows: Samples, then: Samples) -> Estimate:
    """Mean over the problems scored in `then` of the share of `rows` that were not judged."""
    # Problems that never had a gold answer have lost nothing.
    mine = rows.where(is_among(rows.problem, {*codes(scored(then).problem)[0]}))
    problem_N = codes(mine.problem)[1]
    lost_P = np.bincount(problem_N, weights=~np.isfinite(mine.correct))
    return mean_in_unit(lost_P / np.bincount(problem_N), len(mine))


def _share(rows: Samples, hit_N: Floats) -> Estimate:
    problem_N = codes(rows.problem)[1]
    return share(np.bincount(problem_N, weights=hit_N), np.bincount(problem_N))
