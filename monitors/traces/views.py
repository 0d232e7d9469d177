"""Columns of trace rows as the arrays that monitors read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ouroloop.monitors.base import Pool, RoundView, Samples

# Of problems whose rows name none.
FAMILY, SLICE = "default", "typical"


def view_of(number: int, columns: Mapping[str, list[Any]]) -> RoundView:
    """Columns as arrays; the rows with a verdict of the filter are the pool too."""
    objects = {
        name: _objects(columns[name]) for name in ("problem", "strategy", "answer", "cluster")
    }
    texts = {
        "family": _objects([x or FAMILY for x in columns["family"]]),
        "slice": _objects([x or SLICE for x in columns["slice"]]),
        "text": _objects([x or "" for x in columns["text"]]),
    }
    measured = ("correct", "valid", "nll", "num_tokens", "truncated")
    numbers = {name: _numbers(columns[name]) for name in measured}
    probe = Samples(**objects, **texts, **numbers, approvals=_approvals(columns["approved"]))
    # NaN where a row says nothing: such rows were no candidates for training.
    kept = _numbers(columns["kept"])
    chosen = np.isfinite(kept)
    if not chosen.any():
        return RoundView(number, probe)
    rows = probe.where(chosen)
    # None: not known of any row, so that what needs it says so instead of reading a default.
    has_text, has_slice = (any(x is not None for x in columns[name]) for name in ("text", "slice"))
    pool = Pool(
        problem=rows.problem,
        strategy=rows.strategy,
        answer=rows.answer,
        correct=rows.correct,
        kept=kept[chosen] == 1,
        reason=np.full(len(rows), "", dtype=object),
        valid=rows.valid,
        text=rows.text if has_text else None,
        slice=rows.slice if has_slice else None,
    )
    return RoundView(number, probe, pool=pool)


def _approvals(verdicts: Sequence[Mapping[str, float | None] | None]) -> dict[str, Any]:
    """Criterion -> every row's verdict; NaN where a row has none."""
    criteria = sorted({name for found in verdicts for name in found or ()})
    return {name: _numbers([(found or {}).get(name) for found in verdicts]) for name in criteria}


def _numbers(values: Sequence[Any]) -> Any:
    return np.array([np.nan if x is None else x for x in values], dtype=float)


def _objects(values: Sequence[Any]) -> Any:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
