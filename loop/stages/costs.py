"""The tokens that a round's models wrote or read, by purpose, counted from the round's tables.

From tables, not while sampling: a resumed round then counts what it rests on, once. Not counted:
the weight-sync check's few tokens, answers that were asked again after a fault, and comparisons of
two samples (`pairs.sources`), which are read and not sampled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ouroloop.loop.costs import SAMPLED, TOTAL, WATCHED, Purpose, estimand_of, watched_share
from ouroloop.loop.costs import sampled as sampled_of
from ouroloop.loop.records import Completion
from ouroloop.loop.round import Round
from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import NAN

UNKNOWN = "tables of an earlier version do not say how many tokens these took"
NOTHING = "nothing was sampled in this round"


class Cost(NamedTuple):
    """Tokens (NaN: not known), and in how many texts."""

    tokens: float
    texts: int


def costs_of(round: Round) -> dict[Purpose, Cost]:
    """Each purpose's cost in a round. Prompts are not counted: nothing of them is sampled."""
    samples = [sample for sample in round.samples if not sample.dropped]
    critiques = [critique.completion for sample in samples for critique in sample.critiques]
    answers = _sum(row.num_tokens for row in round.probe)
    fitted = sum(row.num_fit_tokens or 0.0 for row in round.probe)
    planted = [row for row in round.audit if row.num_tokens != 0]
    scored = [row.num_tokens or 0.0 for row in round.texts]
    scored += [row.num_tokens or 0.0 for row in round.traces]
    return {
        Purpose.DRAFTS: _written(sample.draft for sample in samples),
        Purpose.CRITIQUES: _written(critiques),
        Purpose.REVISIONS: _written(text for sample in samples for text in sample.revisions),
        Purpose.PROBE: Cost(answers.tokens + fitted, answers.texts),
        Purpose.CRITIC: _sum(row.num_tokens for row in round.critics),
        Purpose.AUDIT: _sum(row.num_tokens for row in planted),
        Purpose.JUDGE: _sum(row.num_sampled for row in round.judgements),
        Purpose.SCORED: _sum(scored),
    }


def read(round: Round) -> list[Reading]:
    """The costs as readings: tokens of every purpose, all that was sampled, the share that watches.

    Exact counts, without intervals; details: `texts`, how many.
    """
    found = costs_of(round)
    tokens = {purpose: cost.tokens for purpose, cost in found.items()}
    readings = [
        _reading(estimand_of(purpose), cost.tokens, {"texts": cost.texts})
        for purpose, cost in found.items()
    ]
    texts = sum(found[purpose].texts for purpose in SAMPLED)
    total = _reading(TOTAL, sampled_of(tokens), {"texts": texts})
    share = watched_share(tokens)
    if share == share:
        return [*readings, total, Reading(WATCHED, share, unit="share")]
    why = NOTHING if sampled_of(tokens) == 0 else UNKNOWN
    return [*readings, total, Reading(WATCHED, NAN, unit="share", status="undefined", reason=why)]


def _reading(estimand: Estimand, tokens: float, details: dict[str, int]) -> Reading:
    if tokens == tokens:
        return Reading(estimand, tokens, unit="tokens", details=details)
    return Reading(estimand, NAN, unit="tokens", status="undefined", reason=UNKNOWN)


def _written(texts: Iterable[Completion]) -> Cost:
    return _sum(float(len(text.token_ids)) for text in texts)


def _sum(tokens: Iterable[float | None]) -> Cost:
    """The sum; unknown where any of it is."""
    known = [NAN if number is None else number for number in tokens]
    return Cost(sum(known), len(known))
