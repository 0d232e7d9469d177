"""Length of traces: a signal of style (M18)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean
from ouroloop.monitors.metrics.readings import as_json, by_family, reading


@dataclass(frozen=True)
class Length:
    """length/tokens: mean over problems of the mean completion length, in tokens.

    Neither way healthy. Unbiased, t interval. details: `families`, and `right` / `wrong`: the same
    among right and among wrong answers. Undefined without token counts. Measured
    (docs/validation/index.md, V2): the interval held the truth in 95 % of 400 probe sets of 120
    problems x 8, in 93 % of 40 x 8.
    """

    name: str = "length"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        # Right and wrong apart: wrong answers are longer, so a falling accuracy alone lengthens
        # traces.
        rows = view.probe.where(np.isfinite(view.probe.num_tokens))
        details = {
            "families": by_family(rows, mean_tokens),
            "right": as_json(mean_tokens(rows.where(rows.correct == 1))),
            "wrong": as_json(mean_tokens(rows.where(rows.correct == 0))),
        }
        return [
            reading(
                Estimand("length/tokens"),
                mean_tokens(rows),
                "tokens",
                "none",
                "no probe sample has a token count",
                details,
            )
        ]


def mean_tokens(rows: Samples) -> Estimate:
    """Mean over problems of the problem's mean number of tokens."""
    problem_N = codes(rows.problem)[1]
    if not len(rows):
        return UNDEFINED
    return mean(np.bincount(problem_N, weights=rows.num_tokens) / np.bincount(problem_N))
