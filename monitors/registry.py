"""Every monitor in one dict, and the one call that reads a round with all of them.

The statistics are listed, with their meaning, in the docstring of each monitor; a reading's id adds
the family, the slice and the samples (`estimators/estimand.py`). `@n` stands for a number.

accuracy/{pass@1, pass@n, maj@n}; diversity/{dcp, gini_simpson_all, gini_simpson_correct,
strategy_entropy_all, strategy_entropy_correct, hill_1, hill_2, collision}; coverage/{kept@n,
alive@n, rare_retention, rare_mass}; ways/{several@n, mean@n}; richness/{sample_coverage@n,
lower_bound@n, at_equal_coverage@n, retained@n}; calibration/{overconfidence@n, brier@n,
smooth_ece@n, ece@n, reliability@n, resolution@n, uncertainty@n}; agreement/{pairs, wrong_share,
decoupling}; shortcut/{top_answer@n, share}; critic/{balanced_accuracy, unreadable, overconfidence,
brier, ece, agreement_gap}; entropy/{token, trace};
text/{own_perplexity, entropy, cross_entropy, gap}; traces/{retained, retained_token, dcp};
drift/excess_homozygosity; validity/{right_wrong_step, wrong_step, truncated, unscored};
supply/{yield, unsolved, kept_per_problem, effective_problems, paths_per_problem, dropped};
selection/{largest_ratio, fresh_share, accuracy_gain};
revision/{copied_critique, unchanged}; tail/{hard_share, gini, slice_ratio};
audit/{false_acceptance, false_rejection, no_verdict}; responses/approved_<criterion>;
principle/<name>; judge/{balanced_accuracy, unreadable, tokens}; clusters/apart; length/tokens;
style/hedging;
similarity/{effective_number_all, effective_number_right}; repetition/{loops, compression_all@n,
compression_right@n, distinct_all@n, distinct_right@n}.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from ouroloop.monitors.base import Monitor, Reading, RoundView
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import NAN
from ouroloop.monitors.metrics.agreement import Agreement
from ouroloop.monitors.metrics.apart import Apart
from ouroloop.monitors.metrics.audit import AuditErrors
from ouroloop.monitors.metrics.calibration import VOTE_SIZE, CriticCalibration, ModelCalibration
from ouroloop.monitors.metrics.coverage import Coverage
from ouroloop.monitors.metrics.diversity import Diversity
from ouroloop.monitors.metrics.drift import Drift
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.generalization import Generalization
from ouroloop.monitors.metrics.judge import FrozenJudge
from ouroloop.monitors.metrics.length import Length
from ouroloop.monitors.metrics.repetition import Repetition
from ouroloop.monitors.metrics.retained import Retained
from ouroloop.monitors.metrics.revisions import Revisions
from ouroloop.monitors.metrics.richness import Richness
from ouroloop.monitors.metrics.selection import Selection
from ouroloop.monitors.metrics.shortcut import Shortcut
from ouroloop.monitors.metrics.similarity import Similarity
from ouroloop.monitors.metrics.style import Style
from ouroloop.monitors.metrics.supply import Supply
from ouroloop.monitors.metrics.tails import Tails
from ouroloop.monitors.metrics.texts import RealText
from ouroloop.monitors.metrics.validity import Validity
from ouroloop.monitors.metrics.ways import Ways


def monitors_for(
    main_family: str | None = None,
    *,
    pass_k: int = 4,
    majority_k: int = 8,
    num_samples: int = 8,
    temperature: float = 1.0,
    fresh_share: float = 0.0,
) -> dict[str, Monitor]:
    """Every monitor by its name, set up for one loop.

    Args:
        main_family: the family that the loop trains; None: the one with most problems.
        pass_k: k of pass@k.
        majority_k: k of maj@k.
        num_samples: samples of a problem for the statistics that depend on their number.
        temperature: that of the probe; entropies are only defined at 1.
        fresh_share: share of the round's training set that was drawn from round 0's distribution.
    """
    return {
        "accuracy": Generalization(k=pass_k, majority_k=majority_k, main_family=main_family),
        "diversity": Diversity(main_family=main_family),
        "coverage": Coverage(num_samples=num_samples),
        "ways": Ways(num_samples=num_samples, main_family=main_family),
        "richness": Richness(num_samples=num_samples),
        # No more votes than every round has samples, or the statistic would be undefined.
        "calibration": ModelCalibration(
            vote_size=min(VOTE_SIZE, num_samples),
            main_family=main_family,
        ),
        "agreement": Agreement(),
        "shortcut": Shortcut(num_samples=num_samples, main_family=main_family),
        "critic": CriticCalibration(),
        "entropy": TraceEntropy(temperature=temperature),
        "text": RealText(temperature=temperature),
        "traces": Retained(),
        "drift": Drift(fresh_share=fresh_share),
        "validity": Validity(),
        "supply": Supply(),
        "selection": Selection(),
        "revision": Revisions(),
        "tail": Tails(),
        "audit": AuditErrors(),
        "judge": FrozenJudge(),
        "apart": Apart(),
        "length": Length(),
        "style": Style(),
        "similarity": Similarity(),
        "repetition": Repetition(num_samples=num_samples),
    }


# With the defaults: what `measure_all` uses when nobody has chosen.
MONITORS: Mapping[str, Monitor] = monitors_for()


def measure_all(
    view: RoundView,
    reference: RoundView | None,
    monitors: Mapping[str, Monitor] | None = None,
) -> list[Reading]:
    """All readings of a round. A monitor that raises becomes one reading with status "error".

    Whether an error ends a run is the caller's choice; here it is neither hidden nor fatal.

    Args:
        view: the round.
        reference: round 0's view, frozen; None in round 0.
        monitors: name -> monitor; default `MONITORS`. To set them up: `monitors_for(pass_k=8)`.
    """
    out: list[Reading] = []
    for name, monitor in (MONITORS if monitors is None else monitors).items():
        try:
            out += monitor.measure(view, reference)
        except Exception as error:
            # Three frames: ours, and where it was raised.
            trace = traceback.format_exc(limit=-3)
            message = (
                f"monitor {name} failed in round {view.round}: {type(error).__name__}: {error}"
            )
            about = {"traceback": trace}
            out.append(
                Reading(
                    Estimand(name),
                    NAN,
                    status="error",
                    reason=message,
                    details=about,
                )
            )
    return out
