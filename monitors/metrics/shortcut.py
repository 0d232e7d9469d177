"""Shortcut share (M11): the one answer that is given to every question."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.estimators.scores import NUM_SPLITS, codes, split_halves
from ouroloop.monitors.estimators.stats import NAN, UNDEFINED, Estimate, mean_in_unit
from ouroloop.monitors.metrics.readings import number, reading


@dataclass(frozen=True)
class Shortcut:
    """shortcut/share: share across problems of the answer with the largest such share, [0, 1].

    Down. Needs no gold answers.

    max over answers o of the mean over problems of P(sample = o). The largest of many noisy shares
    is biased up, so the answer is chosen on one half of each problem's samples and measured on the
    other, averaged over random splits: unbiased for the answers so chosen (60 problems x 8 samples,
    400 answers equally likely everywhere: 0.0027 with se 0.0001 in 200 panels, the plain maximum
    0.012). Every problem weighs the same; an unreadable answer counts in the whole. With answers of
    its own each problem's best one reads about accuracy / problems; a shortcut in 2 % of 120 x 8
    samples lies above 1 / problems in 79 % of draws, in 5 % in all.

    Measured (MONITORS.md, V2): the interval held the truth (0.017) in 97 % of 400 panels of 120
    problems x 8, in 99 % of 40 x 8, where it reads 0.006 too high. Clustered by problem. details:
    `answer` (chosen most often), `chosen` (in which share of the splits), its `problems`, `right`
    (share of its scored samples) and `reference` (its share at round 0). Undefined without readable
    answers or two samples of a problem. Source: Shafayat et al. 2505.21444; selection and
    measurement apart: Cox 1975 (Biometrika 62).
    """

    name: str = "shortcut"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; round 0 only for `details`."""
        estimate, chosen = shortcut_share(view.probe)
        details: dict[str, object] = {}
        if chosen:
            answer, times = chosen.most_common(1)[0]
            mine = view.probe.where(view.probe.answer == answer)
            scored = mine.correct[np.isfinite(mine.correct)]
            details = {
                "answer": answer,
                "chosen": times / chosen.total(),
                "problems": len(set(mine.problem)),
                "right": number(float(scored.mean())) if len(scored) else None,
                "reference": (
                    None if reference is None else number(share_of(reference.probe, answer))
                ),
            }
        why = "no panel sample has a readable answer, or no problem has two samples"
        return [reading("shortcut/share", estimate, "share", "down", why, details)]


def shortcut_share(samples: Samples, num_splits: int = NUM_SPLITS) -> tuple[Estimate, Counter[str]]:
    """The estimate, and how often each answer was chosen.

    Ties go to the first answer in alphabetical order.
    """
    problem_N = codes(samples.problem)[1]
    large = (np.bincount(problem_N) >= 2)[problem_N] if len(problem_N) else np.zeros(0, dtype=bool)
    rows = samples.where(large)
    problems, problem_N = codes(rows.problem)
    labels, answer_N = codes(rows.answer)
    if not labels:
        return UNDEFINED, Counter()
    known_N = answer_N >= 0
    share_P, chosen = np.zeros(len(problems)), Counter[str]()
    for first, second in split_halves((answer_N,), problem_N, num_splits):
        weight_P = 1 / np.bincount(problem_N[first], minlength=len(problems))
        mine = first & known_N
        answer = int(
            np.bincount(
                answer_N[mine], weights=weight_P[problem_N[mine]], minlength=len(labels)
            ).argmax()
        )
        hit_P = np.bincount(
            problem_N[second], weights=answer_N[second] == answer, minlength=len(problems)
        )
        share_P += hit_P / np.bincount(problem_N[second], minlength=len(problems)) / num_splits
        chosen[labels[answer]] += 1
    return mean_in_unit(share_P, len(rows)), chosen


def share_of(samples: Samples, answer: str) -> float:
    """Mean over problems of the share of samples that give `answer`; NaN without samples."""
    problem_N = codes(samples.problem)[1]
    if not len(problem_N):
        return NAN
    share_P: Floats = np.bincount(problem_N, weights=samples.answer == answer) / np.bincount(
        problem_N
    )
    return float(share_P.mean())
