"""Every monitor in one dict, and the one call that reads a round with all of them.

Names of readings: accuracy/{pass_1, pass_k, greedy}/<family>; accuracy/{pass_1,
pass_k}/<family>/<slice>; accuracy/general; diversity/{dcp, gini_simpson_all, gini_simpson_correct,
strategy_entropy_all, strategy_entropy_correct, hill_1, hill_2, collision}; coverage/{kept, alive,
rare_retention}; richness/{sample_coverage, lower_bound, at_equal_coverage, retained};
calibration/{overconfidence, brier, smooth_ece, ece, reliability, resolution, uncertainty};
agreement/{pairs, wrong_share, decoupling}; shortcut/share; critic/{balanced_accuracy, unreadable,
overconfidence, brier, ece, agreement_gap}; entropy/{token, trace}; text/{own_perplexity, entropy,
cross_entropy, gap}; drift/excess_homozygosity; validity/{right_wrong_step, wrong_step, truncated};
supply/{yield, unsolved, kept_per_problem, effective_problems, paths_per_problem};
selection/{largest_ratio, fresh_share, accuracy_gain}; tail/{hard_share, gini, slice_ratio};
audit/{false_acceptance, false_rejection, no_verdict}; length/tokens; style/hedging;
similarity/{effective_number_all, effective_number_right}; repetition/{loops, compression_all,
compression_right, distinct_all, distinct_right}.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from ouroloop.monitors.base import Monitor, Reading, RoundView
from ouroloop.monitors.metrics.agreement import Agreement
from ouroloop.monitors.metrics.audit import AuditErrors
from ouroloop.monitors.metrics.calibration import CriticCalibration, ModelCalibration
from ouroloop.monitors.metrics.coverage import Coverage
from ouroloop.monitors.metrics.diversity import Diversity
from ouroloop.monitors.metrics.drift import Drift
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.generalization import Generalization
from ouroloop.monitors.metrics.length import Length
from ouroloop.monitors.metrics.repetition import Repetition
from ouroloop.monitors.metrics.richness import Richness
from ouroloop.monitors.metrics.selection import Selection
from ouroloop.monitors.metrics.shortcut import Shortcut
from ouroloop.monitors.metrics.similarity import Similarity
from ouroloop.monitors.metrics.style import Style
from ouroloop.monitors.metrics.supply import Supply
from ouroloop.monitors.metrics.tails import Tails
from ouroloop.monitors.metrics.texts import RealText
from ouroloop.monitors.metrics.validity import Validity

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
    "audit": AuditErrors(),
    "length": Length(),
    "style": Style(),
    "similarity": Similarity(),
    "repetition": Repetition(),
}


def measure_all(
    view: RoundView,
    reference: RoundView | None,
    monitors: Mapping[str, Monitor] | None = None,
) -> list[Reading]:
    """All readings of a round. A monitor that raises becomes one reading with status "error".

    Never silent, never fatal here.

    Args: view: the round. reference: round 0's view, frozen; None in round 0. monitors: name ->
        monitor; default `MONITORS`. To configure one: `{**MONITORS, "accuracy":
        Generalization(k=8)}`.
    """
    out: list[Reading] = []
    for name, monitor in (MONITORS if monitors is None else monitors).items():
        try:
            out += monitor.measure(view, reference)
        except Exception as error:
            trace = traceback.format_exc(limit=-3)
            message = (
                f"monitor {name} failed in round {view.round}: {type(error).__name__}: {error}"
            )
            out.append(
                Reading(
                    name, float("nan"), status="error", reason=message, details={"traceback": trace}
                )
            )
    return out
