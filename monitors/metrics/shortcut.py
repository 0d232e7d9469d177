"""Shortcut share (M11): the one answer that is given to every question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, indexed, is_among
from ouroloop.monitors.estimators.estimand import SECOND_HALF, Estimand
from ouroloop.monitors.estimators.halves import first_half
from ouroloop.monitors.estimators.scores import (
    NUM_SPLITS,
    by_problem,
    scored,
    split_halves,
)
from ouroloop.monitors.estimators.stats import NAN, UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.metrics.readings import (
    Kind,
    at,
    equal_sizes,
    main_family_of,
    missing,
    number,
    of,
    reading,
)

KINDS: Mapping[Estimand, Kind] = {Estimand("shortcut/top_answer"): ("share", "down")}
SHARE = Estimand("shortcut/share", samples=SECOND_HALF)


@dataclass(frozen=True)
class Shortcut:
    """How much of the probe one cheap answer has taken.

    * shortcut/top_answer@n: share across problems of the answer with the largest such share, [0,
      1], down. Needs no gold answers.
    * shortcut/share (of the main family): share of samples that give, wrongly, the answer whose
      wrong share grew most since round 0, [0, 1], down; what the decision rule guards. Picked on
      the first half of both rounds' samples, measured on the second. details: `answer`, `before`
      (its wrong share at round 0).

    max over answers o of the mean over problems of P(sample = o). The largest of many noisy shares
    is biased up, so the answer is chosen on one half of each problem's samples and measured on the
    other, averaged over random splits: unbiased for the answers so chosen (60 problems x 8 samples,
    400 answers equally likely everywhere: 0.0027 with se 0.0001 in 200 probe sets, the plain
    maximum 0.012). Which answer is chosen still depends on the number of samples, so the name gives
    it (`num_samples`, or as many as the smaller of the two probes has). Every problem weighs the
    same; an unreadable answer counts in the whole. With answers of its own each problem's best one
    reads about accuracy / problems; a shortcut in 2 % of 120 x 8 samples lies above 1 / problems in
    79 % of draws, in 5 % in all.

    Measured (docs/validation/index.md, V2): the first interval held the truth (0.017) in 97 % of
    400 probe sets of 120 problems x 8, in 99 % of 40 x 8, where it reads 0.006 too high. Clustered
    by problem. details: `answer` (chosen most often), `chosen` (in which share of the splits), its
    `problems`, `right` (share of its scored samples) and `reference` (its share at round 0).
    Undefined without readable answers or two samples of a problem, the second also in round 0.
    Source: Shafayat et al. 2505.21444; selection and measurement apart: Cox 1975 (Biometrika 62).
    """

    name: str = "shortcut"
    num_samples: int = 8
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; round 0 for `details` and for what grew since."""
        size, probe, before = equal_sizes(view, reference, self.num_samples)
        (name,) = at(KINDS, size)
        estimate, chosen = shortcut_share(probe)
        why = "no probe sample has a readable answer, or no problem has two samples"
        about = _about(probe, before, chosen)
        top = reading(
            name,
            estimate,
            "share",
            "down",
            why,
            about,
        )
        main = main_family_of(self.main_family, view, reference)
        grown = [self._grown(replace(SHARE, family=main), view, reference)] if main else []
        return [top, *grown]

    @staticmethod
    def _grown(
        estimand: Estimand,
        view: RoundView,
        reference: RoundView | None,
    ) -> Reading:
        """The guarded quantity's own number: picked on one half, measured on the other."""
        kinds: dict[Estimand, Kind] = {estimand: ("share", "down")}
        if reference is None:
            return missing(kinds, "round 0 is the reference")[0]
        then = scored(of(reference.probe, "family", estimand.family))
        # Only problems that both rounds have scored: the comparison is the decision rule's.
        now = scored(of(view.probe, "family", estimand.family))
        now = now.where(is_among(now.problem, {*codes(then.problem)[0]}))
        first_N, then_first_N = first_half(now), first_half(then)
        # As the decision rule picks it, so that the sentence and the reading agree.
        answer = most_grown_answer(now.where(first_N), then.where(then_first_N))
        if answer is None:
            why = "no readable answer, or one sample per problem: no half to pick the answer on"
            return missing(kinds, why)[0]
        rest = now.where(~first_N)
        found = mean_in_unit(list(wrongly(rest, answer).values()), len(rest))
        before = float(np.mean(list(wrongly(then.where(~then_first_N), answer).values())))
        return reading(
            estimand,
            found,
            "share",
            "down",
            "",
            {"answer": answer, "before": before},
        )


def _about(
    probe: Samples,
    before: Samples | None,
    chosen: Counter[str],
) -> dict[str, object]:
    """What the answer is that was chosen most often."""
    if not chosen:
        return {}
    answer, times = chosen.most_common(1)[0]
    mine = probe.where(probe.answer == answer)
    known = mine.correct[np.isfinite(mine.correct)]
    right = number(float(known.mean())) if len(known) else None
    then = None if before is None else number(share_of(before, answer))
    return {
        "answer": answer,
        "chosen": times / chosen.total(),
        "problems": len(set(mine.problem)),
        "right": right,
        "reference": then,
    }


def wrongly(rows: Samples, answer: str) -> dict[str, float]:
    """Share of each problem's scored samples that give this answer and are wrong."""
    problems, problem_N = codes(rows.problem)
    hit_N = (rows.answer == answer) & (rows.correct == 0)
    share_P = np.bincount(problem_N, weights=hit_N) / np.bincount(problem_N)
    return by_problem(problems, share_P)


def most_grown_answer(now: Samples, then: Samples) -> str | None:
    """The wrong answer whose share lies furthest above that of `then`; None without answers.

    Right answers repeat too, where problems share them, and the more the better a model gets: they
    are no shortcut. Scored rows; the problems are those of `then`.
    """
    labels = sorted({*codes(now.answer)[0], *codes(then.answer)[0]})
    if not labels or not len(now) or not len(then):
        return None
    num = len(set(then.problem))
    grown_A = _wrong_shares(now, labels) - _wrong_shares(then, labels)
    return labels[int(np.argmax(grown_A / num))]


def _wrong_shares(rows: Samples, labels: list[str]) -> Floats:
    """Sum over problems of each answer's share among a problem's samples, where it is wrong."""
    problem_N = codes(rows.problem)[1]
    weight_N = 1 / np.bincount(problem_N)[problem_N]
    answer_N = indexed(rows.answer, labels)
    read_N = (answer_N >= 0) & (rows.correct == 0)
    share_A = np.bincount(answer_N[read_N], weights=weight_N[read_N], minlength=len(labels))
    return np.asarray(share_A, dtype=float)


def shortcut_share(samples: Samples) -> tuple[Estimate, Counter[str]]:
    """The estimate, and how often each answer was chosen.

    Ties go to the first answer in alphabetical order.
    """
    rows = samples
    problem_N = codes(rows.problem)[1]
    if len(problem_N):
        # One sample cannot be split into two halves.
        rows = rows.where((np.bincount(problem_N) >= 2)[problem_N])
    problems, problem_N = codes(rows.problem)
    labels, answer_N = codes(rows.answer)
    if not labels:
        return UNDEFINED, Counter()
    known_N = answer_N >= 0
    share_P, chosen = np.zeros(len(problems)), Counter[str]()
    for first, second in split_halves((answer_N,), problem_N, NUM_SPLITS):
        # Every problem weighs the same, however many of its samples are in this half.
        weight_P = 1 / np.bincount(problem_N[first], minlength=len(problems))
        mine = first & known_N
        answer = int(
            np.bincount(
                answer_N[mine],
                weights=weight_P[problem_N[mine]],
                minlength=len(labels),
            ).argmax()
        )
        hit_P = np.bincount(
            problem_N[second],
            weights=answer_N[second] == answer,
            minlength=len(problems),
        )
        share_P += hit_P / np.bincount(problem_N[second], minlength=len(problems)) / NUM_SPLITS
        chosen[labels[answer]] += 1
    return mean_in_unit(share_P, len(rows)), chosen


def share_of(samples: Samples, answer: str) -> float:
    """Mean over problems of the share of samples that give `answer`; NaN without samples."""
    problem_N = codes(samples.problem)[1]
    if not len(problem_N):
        return NAN
    hits_P = np.bincount(problem_N, weights=samples.answer == answer)
    return float(np.mean(hits_P / np.bincount(problem_N)))
