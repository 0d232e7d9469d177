"""Calibration: of the model's own majority votes, and of its critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ouroloop.monitors.base import Critics, Floats, Reading, RoundView
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.reliability import (
    Sums,
    binned_sums,
    brier,
    debiased_ece,
    decompose,
    mass_bins,
    reliability_bins,
    signed_root,
    smooth_ece,
)
from ouroloop.monitors.estimators.stats import (
    NAN,
    UNDEFINED,
    Estimate,
    balanced_accuracy,
    jackknife,
    jackknife_groups,
    mean,
    share,
)
from ouroloop.monitors.metrics.readings import (
    Better,
    Kind,
    as_json,
    at,
    main_family_of,
    missing,
    most_samples,
    number,
    reading,
)

MODEL_KINDS: Mapping[Estimand, Kind] = {
    Estimand("calibration/overconfidence"): ("share", "none"),
    Estimand("calibration/brier"): ("", "down"),
    Estimand("calibration/smooth_ece"): ("", "down"),
    Estimand("calibration/ece"): ("share", "down"),
    Estimand("calibration/reliability"): ("", "down"),
    Estimand("calibration/resolution"): ("", "up"),
    Estimand("calibration/uncertainty"): ("", "none"),
}
VOTE_SIZE = 8
"""Samples of a vote and its check; more say little more and leave fewer independent choices."""
# As many bins as Guo et al. 1706.04599 take, though of equal mass.
NUM_BINS = 15
CRITIC_KINDS: Mapping[Estimand, Kind] = {
    Estimand("critic/balanced_accuracy", samples="critiques"): ("share", "up"),
    Estimand("critic/unreadable", samples="critiques"): ("share", "down"),
    Estimand("critic/overconfidence", samples="critiques"): ("share", "none"),
    Estimand("critic/brier", samples="critiques"): ("", "down"),
    Estimand("critic/ece", samples="critiques"): ("", "down"),
    Estimand("critic/agreement_gap", samples="critiques"): ("share", "none"),
}
CRITIC = tuple(CRITIC_KINDS)


@dataclass(frozen=True)
class ModelCalibration:
    """Does the vote share of the model's favourite answer say how often it is right (M10)?

    What a vote is worth depends on how many vote, so every statistic names its number of samples,
    half of which vote: `calibration/overconfidence@8`. That is `vote_size`, or what the probe has
    if it has fewer. All samples of a round take part, in random choices of so many.

    * calibration/overconfidence@n: mean(confidence - correct), [-1, 1], 0 is calibrated. Vote from
      one half of a problem's samples, confidence from the other, averaged over random splits:
      unbiased (both from the same samples: biased up). t interval. Of all families, and of the
      main one alone.
    * calibration/brier@n: mean squared gap less the noise of a share of few votes, [0, 1], down;
      unbiased; needs 4 samples.
    * calibration/smooth_ece@n: [0, 1], down; for display: biased up by noise, which also smears the
      confidences.
    * calibration/reliability@n, resolution@n, uncertainty@n: Murphy's parts of the Brier score,
      bias-corrected, votes grouped by their share in the first half; ranges [0, 1], down; [0, 1/4],
      up; [0, 1/4], neither (the task's own). Grouped by the second half's share, its own noise
      would look like miscalibration (16 samples, calibrated: ECE 0.09). Their intervals held the
      truth in 93, 95 and 93 % of draws (80 problems x 8).
    * calibration/ece@n: debiased equal-mass L2 error with its sign, sqrt of reliability, about 0
      when calibrated, down. Jackknife intervals over problems (of the square, for ece).

    details: `bins` of the reliability diagram, mean `confidence` and `correct`, `families`.
    Clustered by problem. Undefined without scored, readable answers or with fewer than n of them in
    every problem. Measured (docs/validation/index.md, V2): the intervals held the truth in 94 to 97
    % of 400 probe sets of 120 problems x 8, in 91 to 97 % of 40 x 8. Source: Xie et al. 2603.06604
    and Huang et al. 2504.02902 (over-confidence grows in self-training); Brier 1950.
    """

    name: str = "calibration"
    vote_size: int = VOTE_SIZE
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; of `reference` only how many samples a problem has."""
        size = self._size(view, reference)
        kinds = at(MODEL_KINDS, size)
        over, squared_gap, smooth, *_ = names = tuple(kinds)
        main = main_family_of(self.main_family, view, reference)
        of_main = {replace(over, family=main): kinds[over]} if main else {}
        # Before the votes: without any answer there is a better reason to give than "too few
        # samples".
        if not codes(view.probe.answer)[0]:
            return missing({**kinds, **of_main}, "no probe sample has a readable answer")
        votes = scores.votes(view.probe, size)
        none = f"no problem has {size} scored samples"
        if not votes.problems:
            return missing({**kinds, **of_main}, none)
        squared_RP = brier(votes.confidence_RP, votes.correct_RP, votes.num_RP)
        gap = smooth_ece(votes.confidence_RP.ravel(), votes.correct_RP.ravel())
        too_few = "a half of two votes is needed: four samples of a problem"
        return [
            self._overconfidence(over, view, votes),
            *(
                reading(name, _overconfidence_of(view, votes, main), *kind, none)
                for name, kind in of_main.items()
            ),
            reading(squared_gap, mean(squared_RP.mean(axis=0)), "", "down", too_few),
            reading(smooth, Estimate(gap, NAN, NAN, len(votes.problems)), "", "down", ""),
            *self._parts(names, votes),
        ]

    def _size(self, view: RoundView, reference: RoundView | None) -> int:
        """Samples of a vote and its check: as many as both rounds have, at least one for each."""
        probes = [view.probe] if reference is None else [view.probe, reference.probe]
        there = [num for p in probes if (num := most_samples(scores.scored(p)))]
        return max(2, min([self.vote_size, *there]))

    @staticmethod
    def _overconfidence(
        estimand: Estimand,
        view: RoundView,
        votes: scores.Votes,
    ) -> Reading:
        """Over all families, with the points of the reliability diagram."""
        confidence, correct = votes.confidence_RP.ravel(), votes.correct_RP.ravel()
        families = codes(view.probe.family)[0]
        details = {
            "bins": reliability_bins(confidence, correct, rows_per_unit=len(votes.confidence_RP)),
            "confidence": float(confidence.mean()),
            "correct": float(correct.mean()),
            "families": {f: as_json(_overconfidence_of(view, votes, f)) for f in families},
        }
        # One score per problem, averaged over the splits: splits are no independent observations.
        over = mean(list(votes.overconfidence().values()))
        return reading(estimand, over, "share", "none", "", details)

    @staticmethod
    def _parts(names: Sequence[Estimand], votes: scores.Votes) -> list[Reading]:
        """ECE and the Brier score's parts, with what they are without each group of problems."""
        num_splits, num = votes.confidence_RP.shape
        # By the first half's share, which is independent of the second half's noise.
        bins = mass_bins(votes.first_RP.ravel()).reshape(num_splits, num)
        # Sums of each (group of problems, split, bin) at once: what is left without a group is
        # then a subtraction, not another pass over the votes.
        group_P = jackknife_groups(num)
        shape = (int(group_P.max()) + 1, num_splits, NUM_BINS)
        cell_RP = np.ravel_multi_index(
            (np.broadcast_to(group_P, bins.shape), np.arange(num_splits)[:, None], bins),
            shape,
        )
        sums = binned_sums(
            votes.confidence_RP.ravel(),
            votes.correct_RP.ravel(),
            cell_RP.ravel(),
            shape,
        )
        total = Sums(*(part.sum(axis=0) for part in sums))
        value, without = decompose(total), decompose(total.less(sums))
        parts = [
            jackknife(float(part.mean()), left.mean(axis=-1), num)
            for part, left in zip(value, without, strict=True)
        ]
        # Interval of the square, whose noise is even, and then the root of its ends.
        reliability, low, high = (signed_root(x) for x in parts[0][:3])
        why = "two problems of about the same confidence are needed"
        ways: tuple[Better, ...] = ("down", "up", "none")
        return [
            reading(names[3], Estimate(reliability, low, high, num), "share", "down", why),
            *(
                reading(name, part, "", way, why)
                for name, part, way in zip(names[4:], parts, ways, strict=True)
            ),
        ]


def _overconfidence_of(
    view: RoundView,
    votes: scores.Votes,
    family: str,
) -> Estimate:
    family_of = dict(zip(view.probe.problem, view.probe.family, strict=True))
    score = votes.overconfidence()
    return mean([value for problem, value in score.items() if family_of[problem] == family])


@dataclass(frozen=True)
class CriticCalibration:
    """Is the critic right, and as often as it says? From critiques of drafts with known truth.

    * critic/balanced_accuracy: mean of the share of right drafts approved and of wrong drafts
      rejected, among readable verdicts, [0, 1], chance 0.5, up; MOVER interval. details:
      `approves_right`, `rejects_wrong`, `strict` (unreadable is a mistake).
    * critic/unreadable: share of critiques without a readable verdict, [0, 1], down.
    * critic/overconfidence: mean(P(approve) - right), [-1, 1], 0 is calibrated; unbiased. details:
      `bins`, `smooth_ece`.
    * critic/brier: mean squared gap, [0, 1], down; unbiased. details: `reliability`, `resolution`,
      `uncertainty` (see `decompose`).
    * critic/ece: debiased equal-mass L2 error with its sign, about 0 when calibrated, down.
    * critic/agreement_gap: mean(vote share of the draft's answer - right), [-1, 1]; unbiased where
      the share leaves out the draft's own vote (with it: biased up by about (1 - share) / samples).
      details: `auroc`, how well agreement ranks right over wrong drafts (0.5: not).

    Clustered by problem. Undefined without critiques of known truth; each part also without its
    input. Measured
    (docs/validation/index.md, V2): the intervals held the truth in 94 to 99 % of 400 draws of 120
    drafts' problems, in 94 to 100 % of 40. Source: Feng et al. 2025 (verifier quality predicts the
    loop's fate); Shafayat 2505.21444 (agreement decouples from truth).
    """

    name: str = "critic"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.critics`."""
        critics = view.critics
        if critics is None or not len(critics.problem):
            return missing(CRITIC_KINDS, "no critic was asked this round")
        return [*_judgement(critics), *_probability(critics), _agreement(critics)]


def _judgement(critics: Critics) -> list[Reading]:
    known, right = np.isfinite(critics.correct), critics.correct == 1
    readable, approved = np.isfinite(critics.approved), critics.approved == 1

    def rate(chosen_N: Floats, hit_N: Floats) -> Estimate:
        # Several drafts of one problem are one cluster.
        problem_N = codes(critics.problem)[1]
        return share(
            np.bincount(problem_N, weights=chosen_N * hit_N),
            np.bincount(problem_N, weights=chosen_N),
        )

    positive = rate((known & right & readable) * 1.0, approved * 1.0)
    negative = rate((known & ~right & readable) * 1.0, (~approved) * 1.0)
    # Strict: an unreadable verdict neither approves nor rejects, and so is a mistake either way.
    rejected = (~approved & readable) * 1.0
    strict = balanced_accuracy(
        rate((known & right) * 1.0, approved * 1.0),
        rate((known & ~right) * 1.0, rejected),
    )
    details = {
        "approves_right": as_json(positive),
        "rejects_wrong": as_json(negative),
        "strict": as_json(strict),
    }
    why = "readable verdicts on both right and wrong drafts are needed"
    return [
        reading(CRITIC[0], balanced_accuracy(positive, negative), "share", "up", why, details),
        reading(CRITIC[1], rate(np.ones(len(known)), (~readable) * 1.0), "share", "down", ""),
    ]


def _probability(critics: Critics) -> list[Reading]:
    known = np.isfinite(critics.probability) & np.isfinite(critics.correct)
    if not known.any():
        return missing(
            {name: CRITIC_KINDS[name] for name in CRITIC[2:5]},
            "no critique has a probability and a known truth",
        )
    claimed, right = critics.probability[known], critics.correct[known]
    problems, problem_N = codes(critics.problem[known])
    details = {
        "bins": reliability_bins(claimed, right),
        "smooth_ece": number(smooth_ece(claimed, right)),
    }
    ece = Estimate(debiased_ece(claimed, right), NAN, NAN, len(problems))
    sums = binned_sums(claimed, right, mass_bins(claimed), (NUM_BINS,))
    parts = decompose(sums)._asdict()
    return [
        reading(CRITIC[2], _mean(claimed - right, problem_N), "share", "none", "", details),
        reading(
            CRITIC[3],
            _mean((claimed - right) ** 2, problem_N),
            "",
            "down",
            "",
            {name: number(float(x)) for name, x in parts.items()},
        ),
        reading(CRITIC[4], ece, "", "down", "too few critiques for a bin of two"),
    ]


def _agreement(critics: Critics) -> Reading:
    known = np.isfinite(critics.agreement) & np.isfinite(critics.correct)
    agreement, right = critics.agreement[known], critics.correct[known]
    gap = UNDEFINED
    if known.any():
        gap = _mean(agreement - right, codes(critics.problem[known])[1])
    why = "no judged draft has a vote share and a known truth"
    return reading(
        CRITIC[5],
        gap,
        "share",
        "none",
        why,
        {"auroc": number(auroc(agreement, right))},
    )


def auroc(score_N: Floats, right_N: Floats) -> float:
    """P(a right row scores above a wrong one), ties one half, [0, 1]; NaN without both kinds.

    Source: Mann & Whitney 1947.
    """
    num_right, num_wrong = float((right_N == 1).sum()), float((right_N == 0).sum())
    if not num_right * num_wrong:
        return NAN
    # Equal scores share the mean of their ranks. (scipy.stats.rankdata does the same, but importing
    # scipy.stats takes 0.7 s, longer than everything else that `ouroloop monitor` imports.)
    _, score_index_N, num_S = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_S = np.cumsum(num_S) - (num_S - 1) / 2
    # The rank sum less its least possible value counts the pairs that are in the right order.
    rank_sum = rank_S[score_index_N][right_N == 1].sum()
    in_order = rank_sum - num_right * (num_right + 1) / 2
    return float(in_order / (num_right * num_wrong))


def _mean(value_N: Floats, problem_N: scores.Ints) -> Estimate:
    return mean(np.bincount(problem_N, weights=value_N) / np.bincount(problem_N))
