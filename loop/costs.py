"""What a run's tokens are spent on: the purposes, and which of them only watch.

A round's readings hold the numbers (`stages/costs.py` counts them, from the round's own tables);
`ouroloop plan --hardware` predicts the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ouroloop.monitors.estimators.estimand import Estimand


class Purpose(StrEnum):
    """Why a model was asked.

    PROBE holds the greedy answers, and the samples that response clusters are fitted on. CRITIC are
    critiques of the probe's answers, AUDIT those of planted items. SCORED reads fixed texts (real
    ones, and the probe's traces) token by token: nothing is sampled.
    """

    DRAFTS = "drafts"
    CRITIQUES = "critiques"
    REVISIONS = "revisions"
    PROBE = "probe"
    CRITIC = "critic"
    AUDIT = "audit"
    JUDGE = "judge"
    SCORED = "scored"


SAMPLED = tuple(purpose for purpose in Purpose if purpose is not Purpose.SCORED)
WATCHING = (Purpose.PROBE, Purpose.CRITIC, Purpose.AUDIT, Purpose.JUDGE)
"""What is sampled to measure the model or its verifier; none of it is ever trained on."""

COST = "cost/"
"""What the statistic of every one of these numbers begins with."""
TOTAL = Estimand(f"{COST}sampled", samples="round")
WATCHED = Estimand(f"{COST}watched", samples="round")


def estimand_of(purpose: Purpose) -> Estimand:
    """The estimand of a round's tokens for one purpose."""
    return Estimand(f"{COST}{purpose}", samples="round")


def sampled(tokens: Mapping[Purpose, float]) -> float:
    """All that was sampled. What is not known (NaN) makes the sum unknown."""
    return sum(tokens.get(purpose, 0.0) for purpose in SAMPLED)


def watched_share(tokens: Mapping[Purpose, float]) -> float:
    """Share of the sampled tokens that only watch; NaN where nothing was sampled."""
    total = sampled(tokens)
    if not total:
        return float("nan")
    return sum(tokens.get(purpose, 0.0) for purpose in WATCHING) / total
