"""From a round's records to the arrays that monitors read. An empty table is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ouroloop.loop.drawn import FurtherRow
from ouroloop.loop.rows import (
    AuditRow,
    CritiqueRow,
    DroppedRow,
    JudgementRow,
    ProbeRow,
    TextRow,
    TraceRow,
    Verdict,
)
from ouroloop.monitors.base import (
    AuditItems,
    Critics,
    Judgements,
    Pool,
    RoundView,
    Samples,
    Texts,
    Traces,
)


def samples_of(rows: Sequence[ProbeRow], judgements: Sequence[JudgementRow] = ()) -> Samples:
    """Answers to the probe set, with what the frozen judge made of them."""
    return Samples(
        problem=_objects(rows, "problem"),
        family=_objects(rows, "family"),
        slice=_objects(rows, "slice"),
        correct=_floats(rows, "correct"),
        valid=_floats(rows, "valid"),
        strategy=_objects(rows, "strategy"),
        answer=_objects(rows, "answer"),
        nll=_floats(rows, "nll"),
        num_tokens=_floats(rows, "num_tokens"),
        truncated=_floats(rows, "truncated"),
        text=_objects(rows, "text"),
        cluster=_objects(rows, "cluster"),
        approvals=_approvals(rows, judgements),
        asked=_asked(rows, judgements),
    )


def with_draws(
    view: RoundView, probe: Sequence[ProbeRow], further: Sequence[FurtherRow]
) -> RoundView:
    """The view with the samples of all draws of the probe set, together and draw by draw."""
    if not further:
        return view
    rows = [row for row in probe if row.kind == "sample"]
    draw_N = np.array([0] * len(rows) + [row.draw for row in further])
    # Only the first draw has a frozen judge's verdicts.
    nothing = np.full(len(further), np.nan)
    judged = view.probe.approvals.items()
    approvals = {name: np.concatenate([x_N, nothing]) for name, x_N in judged}
    asked_N = np.concatenate([view.probe.asked, np.zeros(len(further))])
    whole = replace(samples_of([*rows, *further]), approvals=approvals, asked=asked_N)
    draws = tuple(whole.where(draw_N == draw) for draw in range(int(draw_N.max()) + 1))
    return replace(view, probe=whole, draws=draws)


def _approvals(rows: Sequence[ProbeRow], judgements: Sequence[JudgementRow]) -> dict[str, Any]:
    """Criterion -> (N,) 1, 0 or NaN, where an answer was not judged or a verdict not readable."""
    place = _places(rows)
    found: dict[str, Any] = {}
    for each in judgements:
        # Planted items are no answers of the model.
        if each.truth is None:
            values = found.setdefault(each.criterion, np.full(len(rows), np.nan))
            if each.approved is not None:
                values[place[each.problem, each.index]] = each.approved
    return found


def _asked(rows: Sequence[ProbeRow], judgements: Sequence[JudgementRow]) -> Any:
    """(N,) 1 where a verdict was asked for, readable or not, else 0; NaN without a judge."""
    if not judgements:
        return np.full(len(rows), np.nan)
    place, asked_N = _places(rows), np.zeros(len(rows))
    for each in judgements:
        if each.truth is None:
            asked_N[place[each.problem, each.index]] = 1.0
    return asked_N


def _places(rows: Sequence[ProbeRow]) -> dict[tuple[str, int], int]:
    """Where an answer stands, which is known by its place among its problem's samples."""
    place: dict[tuple[str, int], int] = {}
    num: Counter[str] = Counter()
    for i, row in enumerate(rows):
        place[row.problem, num[row.problem]] = i
        num[row.problem] += 1
    return place


def judge_of(rows: Sequence[JudgementRow]) -> Judgements | None:
    """The frozen judge's verdicts one by one."""
    if not rows:
        return None
    return Judgements(
        problem=_objects(rows, "problem"),
        family=_objects(rows, "family"),
        criterion=_objects(rows, "criterion"),
        principle=_objects(rows, "principle"),
        approved=_floats(rows, "approved"),
        truth=_floats(rows, "truth"),
        num_tokens=_floats(rows, "num_tokens"),
    )


def critics_of(rows: Sequence[CritiqueRow]) -> Critics | None:
    """Critiques with known truth."""
    if not rows:
        return None
    return Critics(
        problem=_objects(rows, "problem"),
        approved=_floats(rows, "approved"),
        probability=_floats(rows, "probability"),
        correct=_floats(rows, "correct"),
        agreement=_floats(rows, "agreement"),
    )


def pool_of(verdicts: Sequence[Verdict]) -> Pool | None:
    """A round's samples before and after the filters."""
    if not verdicts:
        return None
    # Runs of earlier versions have no slices: None says that of the whole pool.
    # One reason for each sample, the first: monitors count samples, not reasons.
    first_reasons = ["".join(v.reasons[:1]) for v in verdicts]
    has_slices = verdicts[0].slice is not None
    return Pool(
        problem=_objects(verdicts, "problem_id"),
        strategy=_objects(verdicts, "strategy"),
        answer=_objects(verdicts, "answer"),
        correct=_floats(verdicts, "correct"),
        kept=np.array([v.kept for v in verdicts], dtype=bool),
        reason=np.array(first_reasons, dtype=object),
        valid=_floats(verdicts, "valid"),
        approved=_floats(verdicts, "approved"),
        text=_objects(verdicts, "text"),
        slice=_objects(verdicts, "slice") if has_slices else None,
        cluster=_objects(verdicts, "cluster"),
        like_critique=_floats(verdicts, "like_critique"),
        like_draft=_floats(verdicts, "like_draft"),
    )


def dropped_of(rows: Sequence[DroppedRow]) -> Any:
    """The problems of samples that no server answered."""
    return _objects(rows, "problem_id")


def texts_of(rows: Sequence[TextRow]) -> Texts | None:
    """Real texts under the round's model."""
    if not rows:
        return None
    return Texts(
        problem=_objects(rows, "problem"),
        nll=_floats(rows, "nll"),
        entropy=_floats(rows, "entropy"),
        num_tokens=_floats(rows, "num_tokens"),
    )


def traces_of(rows: Sequence[TraceRow]) -> Traces | None:
    """Round 0's chosen answers under the round's model."""
    if not rows:
        return None
    return Traces(
        problem=_objects(rows, "problem"),
        family=_objects(rows, "family"),
        slice=_objects(rows, "slice"),
        group=_objects(rows, "group"),
        share=_floats(rows, "share"),
        text=_objects(rows, "text"),
        logprob=_floats(rows, "logprob"),
        num_tokens=_floats(rows, "num_tokens"),
    )


def audit_of(rows: Sequence[AuditRow]) -> AuditItems | None:
    """Planted items of known truth."""
    if not rows:
        return None
    return AuditItems(
        problem=_objects(rows, "problem"),
        right=_floats(rows, "right"),
        accepted=_floats(rows, "accepted"),
    )


def _objects(rows: Sequence[Any], name: str) -> Any:
    # `np.array` would make strings of fixed width, or a table of equally long lists.
    out = np.empty(len(rows), dtype=object)
    out[:] = [getattr(row, name) for row in rows]
    return out


def _floats(rows: Sequence[Any], name: str) -> Any:
    values = [getattr(row, name) for row in rows]
    return np.array([np.nan if value is None else float(value) for value in values], dtype=float)
