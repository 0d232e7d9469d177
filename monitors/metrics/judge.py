"""A frozen judge: what it approves of, by criterion and principle, and how good it is itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Judgements, Objects, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.scores import Bools
from ouroloop.monitors.estimators.stats import (
    NAN,
    UNDEFINED,
    Estimate,
    balanced_accuracy,
    mean,
    share,
)
from ouroloop.monitors.metrics.readings import Kind, as_json, missing, reading

ACCURACY = Estimand("judge/balanced_accuracy", samples="items")
UNREADABLE = Estimand("judge/unreadable")
TOKENS = Estimand("judge/tokens")
NO_JUDGE = "no frozen judge reads this round's answers"
KINDS: Mapping[Estimand, Kind] = {
    ACCURACY: ("share", "up"),
    UNREADABLE: ("share", "down"),
    TOKENS: ("count", "none"),
}


@dataclass(frozen=True)
class FrozenJudge:
    """What a judge says that is the same in every round, and how far it can be believed.

    * responses/approved_<criterion>: mean over problems of the share of their judged answers that
      it approves, or of a scorer's scores, [0, 1], up; of every family, and of all together. t
      interval.
    * principle/<name>: the same of the answers that were asked about one principle.
    * judge/balanced_accuracy: mean of the share of planted right items approved and of wrong ones
      rejected, among readable verdicts, [0, 1], chance 0.5, up; MOVER interval. A scorer approves
      from 0.5 on. Judged once, in round 0. details: both shares, and the number of items by
      principle.
    * judge/unreadable: share of its verdicts on answers that could not be read, [0, 1], down.
    * judge/tokens: tokens of all its prompts and verdicts in the round: what it costs.

    Clustered by problem. An approval is the judge's opinion: with a balanced accuracy near one half
    its changes are noise, however small their intervals. Undefined without a judge; where approvals
    came with the samples, as in another loop's traces, they alone are known.
    Source: Zheng et al. 2306.05685 (a judge is to be compared with known verdicts first).
    """

    name: str = "judge"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.judge`."""
        judge = view.judge
        if judge is None or not len(judge.problem):
            # Of another loop's judge only what it said is known.
            given = list(_given(view.probe))
            why = "of the frozen judge only its approvals are known" if given else NO_JUDGE
            return [*given, *missing(KINDS, why)]
        asked = np.isnan(judge.truth)
        unreadable = _share(judge.problem, asked, np.isnan(judge.approved))
        total = Estimate(float(np.nansum(judge.num_tokens)), NAN, NAN, len(set(judge.problem)))
        return [
            *_approvals(judge, asked),
            _accuracy(judge),
            reading(UNREADABLE, unreadable, *KINDS[UNREADABLE], "no answer was judged"),
            reading(TOKENS, total, *KINDS[TOKENS], ""),
        ]


def _approvals(judge: Judgements, asked: Bools) -> Iterator[Reading]:
    """By criterion, of every family and of all together; then by principle."""
    for criterion in sorted(set(judge.criterion[asked])):
        of_criterion = asked & (judge.criterion == criterion)
        yield from _by_family(criterion, judge, judge.approved, of_criterion)
    # A scorer judges by its criterion alone.
    for principle in sorted(set(judge.principle[asked]) - {None}):
        chosen = asked & (judge.principle == principle)
        yield _approved(Estimand(f"principle/{principle}"), judge.problem, judge.approved, chosen)


def _given(probe: Samples) -> Iterator[Reading]:
    """By criterion, of every family and of all together, where approvals came with the samples."""
    for criterion, approved_N in sorted(probe.approvals.items()):
        yield from _by_family(criterion, probe, approved_N, np.isfinite(approved_N))


def _by_family(
    criterion: str, texts: Judgements | Samples, approved_N: Floats, chosen_N: Bools
) -> Iterator[Reading]:
    statistic = f"responses/approved_{criterion}"
    yield _approved(Estimand(statistic), texts.problem, approved_N, chosen_N)
    for family in sorted(set(texts.family[chosen_N])):
        of_family_N = chosen_N & (texts.family == family)
        yield _approved(Estimand(statistic, family), texts.problem, approved_N, of_family_N)


def _approved(
    estimand: Estimand, problem_N: Objects, approved_N: Floats, chosen_N: Bools
) -> Reading:
    """Mean over problems of their own means, as a guard's blocks of one sample have it."""
    read_N = chosen_N & np.isfinite(approved_N)
    value = UNDEFINED
    if read_N.any():
        row_N = codes(problem_N[read_N])[1]
        value = mean(np.bincount(row_N, weights=approved_N[read_N]) / np.bincount(row_N))
    return reading(estimand, value, "share", "up", "no verdict of the judge could be read")


def _accuracy(judge: Judgements) -> Reading:
    readable = np.isfinite(judge.approved)
    approved = judge.approved >= 0.5
    right = _share(judge.problem, readable & (judge.truth == 1), approved)
    wrong = _share(judge.problem, readable & (judge.truth == 0), ~approved)
    planted = np.isfinite(judge.truth)
    # A scorer's items have a criterion, and no principle.
    named = np.where(judge.principle == None, judge.criterion, judge.principle)  # noqa: E711
    names, counts = np.unique(named[planted].astype(str), return_counts=True)
    details = {
        "approves_right": as_json(right),
        "rejects_wrong": as_json(wrong),
        "items": dict(zip(names.tolist(), counts.tolist(), strict=True)),
    }
    why = "no planted items of both kinds were judged; a judge is audited in round 0"
    return reading(ACCURACY, balanced_accuracy(right, wrong), *KINDS[ACCURACY], why, details)


def _share(problem_N: Objects, chosen_N: Bools, hit_N: Bools) -> Estimate:
    row_N = codes(problem_N)[1]
    hits_P = np.bincount(row_N, weights=chosen_N & hit_N)
    return share(hits_P, np.bincount(row_N, weights=chosen_N))
