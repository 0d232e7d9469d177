"""Trace entropy: how much the model still hesitates while it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean, ratio
from ouroloop.monitors.metrics.readings import Kind, by_family, missing, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("entropy/token"): ("nats/token", "none"),
    Estimand("entropy/trace"): ("nats/trace", "none"),
}
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class TraceEntropy:
    """Entropy of the model's own traces from the log-probabilities of what it sampled (M7, M8).

    * entropy/token: sum of -log p over all sampled tokens / number of tokens, nats/token, [0, ln
      V]. E[sum_t -log p_t] = E[sum_t H_t] for traces of any random length (a martingale stopped at
      the end), so sum over sum estimates the mean entropy of the positions visited; a mean of
      per-trace means would not (length depends on what was sampled). Bias of order 1 / problems.
    * entropy/trace: the sum per trace, nats, [0, inf), exactly unbiased; grows with length.

    A diagnosis, neither way healthy: falls in healthy improvement too, flat or rising in error
    accumulation. Undefined unless the probe was sampled at temperature 1 (field `temperature`;
    without cuts): else the mean is a cross-entropy, not an entropy. Clustered by problem. Measured
    (docs/validation/index.md, V2): the intervals held the truth in 95 % of 400 probe sets of 120
    problems x 8, in 94 % of 40 x 8. Source: Zhang et al. 2605.14588 (entropy contraction comes
    first); Cover & Thomas, chapter 4 (entropy rate).
    """

    name: str = "entropy"
    temperature: float = 1.0

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        if self.temperature != 1.0:
            why = (
                f"probe sampled at temperature {self.temperature:g}: its log-probabilities give a"
                " cross-entropy, not an entropy (what a decision calls token entropy is that)"
            )
            return missing(KINDS, why)
        probe = view.probe
        # An empty completion has no token, and its mean is a number over nothing.
        rows = probe.where(np.isfinite(probe.nll) & (probe.num_tokens > 0))
        why = "no probe sample has log-probabilities"
        token, trace = per_token(rows), per_trace(rows)
        return [
            reading(
                NAMES[0],
                token,
                "nats/token",
                "none",
                why,
                {"families": by_family(rows, per_token)},
            ),
            reading(
                NAMES[1],
                trace,
                "nats/trace",
                "none",
                why,
                {"families": by_family(rows, per_trace)},
            ),
        ]


def per_token(rows: Samples) -> Estimate:
    """Total negative log-probability over total tokens, clustered."""
    problems, problem_N = codes(rows.problem)
    nats_P = np.bincount(problem_N, weights=rows.nll * rows.num_tokens, minlength=len(problems))
    tokens_P = np.bincount(problem_N, weights=rows.num_tokens, minlength=len(problems))
    # Sum over sum, not a mean of means: long traces have more positions.
    return ratio(nats_P, tokens_P)


def per_trace(rows: Samples) -> Estimate:
    """Mean over problems of the mean total negative log-probability of a trace."""
    problems, problem_N = codes(rows.problem)
    if not problems:
        return UNDEFINED
    nats_P = np.bincount(problem_N, weights=rows.nll * rows.num_tokens)
    return mean(nats_P / np.bincount(problem_N))
