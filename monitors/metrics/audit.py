"""Verifier audit (M13): what the filter made of planted items of known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import AuditItems, Floats, Reading, RoundView
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import Estimate, share
from ouroloop.monitors.metrics.readings import Kind, missing, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("audit/false_acceptance", samples="audit"): ("share", "down"),
    Estimand("audit/false_rejection", samples="audit"): ("share", "down"),
    Estimand("audit/no_verdict", samples="audit"): ("share", "down"),
}
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class AuditErrors:
    """Error rates of the round's filter on planted items, shares in [0, 1], down. Unbiased.

    * audit/false_acceptance: of the wrong items with a verdict, the share accepted.
    * audit/false_rejection: of the right items with a verdict, the share rejected.
    * audit/no_verdict: of all items, the share without a verdict (what that means for a training
      sample is the filter's own rule).

    Exact binomial (Clopper-Pearson) intervals, widened where items of one problem go together (see
    `stats.share`): 0 of 200 accepted still allows 1.8 %. details: `accepted` / `rejected`,
    `judged`. Undefined without items of the kind, or without a verdict on any. Measured
    (docs/validation/index.md, V2): the intervals held the truth in 96 to 97 % of 400 draws of 120
    items, in 97 to 99 % of 40. Source: Feng et al. 2406.07515 (a verifier's error rates decide
    whether its loop improves); Clopper & Pearson 1934.
    """

    name: str = "audit"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.audit`."""
        items = view.audit
        if items is None or not len(items.problem):
            return missing(KINDS, "no planted item was judged this round")
        # No verdict is a third outcome with a share of its own.
        judged = np.isfinite(items.accepted)
        out = []
        for name, right, word in ((NAMES[0], 0.0, "accepted"), (NAMES[1], 1.0, "rejected")):
            chosen = judged & (items.right == right)
            # A mistake is the opposite of the truth: a wrong item accepted, a right one rejected.
            hit = chosen & (items.accepted == 1 - right)
            kind = "right" if right else "wrong"
            details = {word: int(hit.sum()), "judged": int(chosen.sum())}
            out.append(
                reading(
                    name,
                    error_rate(items, right),
                    "share",
                    "down",
                    f"no {kind} item got a verdict",
                    details,
                )
            )
        return [
            *out,
            reading(
                NAMES[2],
                _rate(items, np.ones(len(judged)), (~judged).astype(float)),
                "share",
                "down",
                "",
            ),
        ]


def error_rate(items: AuditItems, right: float) -> Estimate:
    """Share of the right (1.0) or wrong (0.0) items with a verdict that got the wrong one."""
    chosen = np.isfinite(items.accepted) & (items.right == right)
    return _rate(items, chosen.astype(float), (items.accepted == 1 - right).astype(float))


def _rate(items: AuditItems, chosen_N: Floats, hit_N: Floats) -> Estimate:
    problem_N = codes(items.problem)[1]
    hits_P = np.bincount(problem_N, weights=chosen_N * hit_N)
    chosen_P = np.bincount(problem_N, weights=chosen_N)
    return share(hits_P, chosen_P)
