"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments.rounds import READINGS
from ouroloop.loop.round import Round
from ouroloop.loop.round_view import traces_of
from ouroloop.loop.rows import TextRow, TraceRow
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.retained import kept
from ouroloop.monitors.names import Tier

SAMPLED = ("pass_1", "pass_k", "tail_pass_k", "dcp", "entropy")


def measure(path: Path) -> list[dict[str, Any]]:
    """One row per round: what was sampled, what was scored, and the rule's evidence."""
    rounds = read_run(path).rounds
    return table(path, {found.number: Round.of(path, found.number).traces for found in rounds})


def table(path: Path, traces: Mapping[int, Sequence[TraceRow]]) -> list[dict[str, Any]]:
    """The rows of a run whose answers have these scores, by round."""
    first = Round.of(path, 0)
    return [
        {
            **sampled(found),
            **scored(traces[found.number], traces[0]),
            **real(Round.of(path, found.number), first),
        }
        for found in read_run(path).rounds
        if found.number in traces
    ]


def sampled(found: RoundData) -> dict[str, Any]:
    """The probe set's readings, and the evidence of the rule that reads it."""
    decision = Decision.from_json(found.decision) if found.decision else None
    evidence = {} if decision is None else decision.evidence
    readings = {name: found.find(READINGS[name]) for name in SAMPLED}
    return {
        "round": found.number,
        "action": found.action,
        **{name: math.nan if r is None else r.value for name, r in readings.items()},
        # 1 and more: the tier's limit is reached.
        **{
            f"{tier}_share": evidence[tier].log_e / evidence[tier].log_limit
            if evidence
            else math.nan
            for tier in Tier
        },
    }


def scored(now: Sequence[TraceRow], first: Sequence[TraceRow]) -> dict[str, float]:
    """What round 0's answers kept, and what they cost: tokens that were scored."""
    found = kept(*(_known(traces_of(rows)) for rows in (now, first)))
    return {
        "retained": float(found.mean_P(found.whole_G).mean()),
        "retained_token": float(found.mean_P(found.token_G).mean()),
        # Groups with less than a tenth of the probability that they had.
        "dead": float((found.ratio_G < 0.1).mean()),
        "scored_dcp": float(found.distinct_P.mean()),
        "traces": len(now),
        "scored_tokens": sum(row.num_tokens or 0.0 for row in now),
    }


def real(now: Round, first: Round) -> dict[str, float]:
    """What real demonstrations kept of their probability, whole texts and per token."""
    pairs = list(zip(now.texts, first.texts, strict=True))
    whole = [_kept(new, old, new.num_tokens or 0.0) for new, old in pairs]
    token = [_kept(new, old, 1.0) for new, old in pairs]
    return {"text_retained": float(np.mean(whole)), "text_retained_token": float(np.mean(token))}


def _kept(new: TextRow, old: TextRow, num_tokens: float) -> float:
    """min(1, p_new / p_old) of so many tokens; NaN where one was not scored."""
    if new.nll is None or old.nll is None:
        return math.nan
    return math.exp(min(0.0, (old.nll - new.nll) * num_tokens))


def _known(traces: Any) -> Any:
    assert traces is not None, "the run scored no traces: `probe.traces` was 0"
    return traces
