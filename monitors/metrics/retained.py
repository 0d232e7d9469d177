"""What round 0's answers have kept of their probability: strategies that die, without sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.retained import kept
from ouroloop.monitors.estimators.stats import mean
from ouroloop.monitors.metrics.readings import Kind, missing, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("traces/retained", samples="traces"): ("share", "up"),
    Estimand("traces/retained_token", samples="traces"): ("share", "up"),
    Estimand("traces/dcp", samples="traces"): ("share", "up"),
}


@dataclass(frozen=True)
class Retained:
    """Round 0's answers (`RoundView.traces`) under the round's model, against round 0.

    * traces/retained: min(1, mean of p_now / p_0 over a strategy's answers), mean over a problem's
      strategies, then over problems, [0, 1]; 1 in round 0. Probabilities of whole answers at
      temperature 1. Every strategy counts alike, however rare it was.
    * traces/retained_token: the same of (p_now / p_0)^(1 / tokens), each answer cut at 1.
    * traces/dcp: distinct-correct-pair probability (where nobody scores: two clusters) from round
      0's shares of the strategies and these ratios. It knows no strategy that round 0 had not, and
      only the answers that were chosen, so that it reads low where a model finds new ones.

    Of the fixed answers exact: the same model gives the same numbers. The interval is of problems
    drawn anew. A fall is no proof of harm: a model that improves gives probability to answers that
    round 0 never gave, the longer the answers the more (docs/decisions/022). Undefined without
    scored answers. Source: ours; importance sampling as in Owen, Monte Carlo theory, chapter 9.
    """

    name: str = "traces"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.traces`."""
        now = view.traces
        # Round 0 compared with itself: the run's first value is 1, not missing.
        then = now if reference is None else reference.traces
        if now is None or then is None:
            return missing(KINDS, "no answers of round 0 were scored")
        found = kept(now, then)
        why = "no answer of round 0 was scored in both rounds"
        if not len(found.problem_G):
            return missing(KINDS, why)
        # Beside the means, in which one strategy that died among many is lost.
        least = {"least": float(np.min(found.ratio_G)), "strategies": len(found.problem_G)}
        values = (found.mean_P(found.whole_G), found.mean_P(found.token_G), found.distinct_P)
        return [
            reading(estimand, mean(x_P), unit, better, why, least)
            for (estimand, (unit, better)), x_P in zip(KINDS.items(), values, strict=True)
        ]
