"""Every monitor in one dict, and the one call that reads a round with all of them.

Names of readings:
accuracy/{pass_1, pass_k, greedy}/<family>; accuracy/{pass_1, pass_k}/<family>/<slice>; accuracy/general;
diversity/{dcp, gini_simpson_all, gini_simpson_correct, strategy_entropy_all, strategy_entropy_correct, hill_1, hill_2, collision};
coverage/{kept, alive, rare_retention}; richness/{sample_coverage, lower_bound, at_equal_coverage, retained};
calibration/{overconfidence, brier, smooth_ece, ece, reliability, resolution, uncertainty}; agreement/{pairs, wrong_share, decoupling};
shortcut/share; critic/{balanced_accuracy, unreadable, overconfidence, brier, ece, agreement_gap}; entropy/{token, trace};
text/{own_perplexity, entropy, cross_entropy, gap}; drift/excess_homozygosity; validity/{right_wrong_step, wrong_step, truncated};
supply/{yield, unsolved, kept_per_problem, effective_problems, paths_per_problem}; selection/{largest_ratio, fresh_share,
accuracy_gain};
tail/{hard_share, gini, slice_ratio}; canary/{false_acceptance, false_rejection, no_verdict}; length/tokens;
style/hedging;
similarity/{effective_number_all, effective_number_right}; repetition/{loops, compression_all, compression_right, distinct_all, distinct_right}.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from monitors.agreement import Agreement
from monitors.base import Monitor, Reading, RoundView
from monitors.calibration import CriticCalibration, ModelCalibration
from monitors.canaries import CanaryErrors
from monitors.coverage import Coverage
from monitors.diversity import Diversity
from monitors.drift import Drift
from monitors.entropy import TraceEntropy
from monitors.generalization import Generalization
from monitors.length import Length
from monitors.repetition import Repetition
from monitors.richness import Richness
from monitors.selection import Selection
from monitors.shortcut import Shortcut
from monitors.similarity import Similarity
from monitors.style import Style
from monitors.supply import Supply
from monitors.tails import Tails
from monitors.texts import RealText
from monitors.validity import Validity

MONITORS: Mapping[str, Monitor] = {
    "accuracy": Generalization(),
    "diversity": Diversity(),
    "coverage": Coverage(),
    "richness": Richness(),
    "calibration": ModelCalibration(),
    "agreement": Agreement(),
    "shortcut": Shortcut(),
    "critic": CriticCalibration(),
    "entropy": TraceEntropy(),
    "text": RealText(),
    "drift": Drift(),
    "validity": Validity(),
    "supply": Supply(),
    "selection": Selection(),
    "tail": Tails(),
    "canary": CanaryErrors(),
    "length": Length(),
    "style": Style(),
    "similarity": Similarity(),
    "repetition": Repetition(),
}


def measure_all(
    view: RoundView, reference: RoundView | None, monitors: Mapping[str, Monitor] | None = None,
) -> list[Reading]:
    """All readings of a round. A monitor that raises becomes one reading with status "error": never silent, never fatal here.

    Args:
        view: the round.
        reference: round 0's view, frozen; None in round 0.
        monitors: name -> monitor; default `MONITORS`. To configure one: `{**MONITORS, "accuracy": Generalization(k=8)}`.
    """
    out: list[Reading] = []
    for name, monitor in (MONITORS if monitors is None else monitors).items():
        try:
            out += monitor.measure(view, reference)
        except Exception as error:
            trace = traceback.format_exc(limit=-3)
            message = f"monitor {name} failed in round {view.round}: {type(error).__name__}: {error}"
            out.append(Reading(name, float("nan"), status="error", reason=message, details={"traceback": trace}))
    return out
