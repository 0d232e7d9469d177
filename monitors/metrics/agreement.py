"""Agreement of a problem's samples with each other, and whether it follows the truth (M13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import Estimate, cut, mean_in_unit, paired, ratio
from ouroloop.monitors.estimators.ustatistics import same_pairs
from ouroloop.monitors.metrics.readings import Kind, by_family, missing, reading

KINDS: Mapping[Estimand, Kind] = {
    Estimand("agreement/pairs"): ("probability", "none"),
    Estimand("agreement/wrong_share"): ("share", "down"),
    Estimand("agreement/decoupling"): ("", "down"),
}
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class Agreement:
    """What a majority vote sees, against what is true.

    * agreement/pairs: P(two samples of a problem give the same readable answer), [0, 1]; neither
      way healthy: rises with accuracy, and in a loop that rewards agreement. Exactly unbiased
      (pairs without repetition).
    * agreement/wrong_share: of the pairs that agree, the share that agree on a wrong answer, [0,
      1], down; ratio of two unbiased means, bias of order 1 / problems.
    * agreement/decoupling: change of `pairs` less change of pass@1 since round 0, paired by
      problem, [-2, 2], 0 is healthy, down: agreement that grows without truth. Unbiased, t
      interval.

    Measured, 120 problems x 8: wrong answers that fall on 2 instead of 3 different ones are seen as
    decoupling in 77 % of draws, on 1 in all, an unchanged model in 4 % (two-sided intervals).
    Clustered by problem; details: `families`. Undefined without readable answers or two scored
    samples of a problem; the second also when no pair agrees, the third in round 0. Source:
    Shafayat et al. 2505.21444 (rewarded agreement first follows, then leaves the truth); Simpson
    1949.
    """

    name: str = "agreement"

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` against `reference.probe`."""
        if not codes(view.probe.answer)[0]:
            return missing(KINDS, "no probe sample has a readable answer")
        why = "two scored samples of a problem are needed"
        out = [
            reading(
                NAMES[0],
                pairs(view.probe),
                "probability",
                "none",
                why,
                {"families": by_family(view.probe, pairs)},
            ),
            reading(
                NAMES[1],
                wrong_share(view.probe),
                "share",
                "down",
                f"no two samples agree, or {why}",
                {"families": by_family(view.probe, wrong_share)},
            ),
        ]
        if reference is None:
            return [*out, *missing({NAMES[2]: KINDS[NAMES[2]]}, "round 0 is the reference")]
        # 2.0: the lead lies in [-1, 1], so two of them differ by 2 at most.
        gap = paired(_lead(view.probe), _lead(reference.probe), bound=2.0).interval()
        return [
            *out,
            reading(NAMES[2], gap, "", "down", f"{why}, of the same problem in both rounds"),
        ]


def pairs(rows: Samples) -> Estimate:
    """Mean over problems of P(two samples agree)."""
    return mean_in_unit(list(agreement(rows).values()), len(rows))


def wrong_share(rows: Samples) -> Estimate:
    """P(two samples agree and are wrong) / P(two samples agree)."""
    agreed, agreed_wrong = agreement(rows), agreement(rows, wrong=True)
    share = ratio(list(agreed_wrong.values()), list(agreed.values()))
    return cut(share, 0.0, 1.0)


def agreement(samples: Samples, wrong: bool = False) -> scores.Scores:
    """P(two scored samples of a problem give the same readable answer (and are both wrong)).

    NaN below two scored samples.
    """
    rows = scores.scored(samples)
    problems, problem_N = codes(rows.problem)
    answer_N = codes(rows.answer)[1]
    # An unreadable answer agrees with nothing, but counts among the pairs.
    counted = (answer_N >= 0) & ((rows.correct == 0) | (not wrong))
    same_P = same_pairs(problem_N[counted], answer_N[counted], len(problems))
    num_P: Floats = np.bincount(problem_N, minlength=len(problems)).astype(float)
    has_pair_P = num_P >= 2
    pairs_P = np.where(has_pair_P, num_P * (num_P - 1), 1)
    share_P = np.where(has_pair_P, same_P / pairs_P, np.nan)
    return scores.by_problem(problems, share_P)


def _lead(rows: Samples) -> scores.Scores:
    """How far agreement lies above accuracy, per problem."""
    right = scores.accuracy(rows)
    return {problem: value - right[problem] for problem, value in agreement(rows).items()}
