"""A real language model through the loop: SmolLM2-135M on ASDiv, guarded and not.

Every arm starts from the same warm-started checkpoint and answers people's word problems. A run
goes on where it was cut off, so that the study spreads over many sittings.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study

from . import beyond, data, warm_start
from .arms import ARMS, BASE, FURTHER
from .figure import draw
from .findings import COLUMNS, goals
from .notes import notes

STUDY = Study(
    "real_model",
    BASE,
    ARMS,
    made={"warm": warm_start.start, "problems": data.problems},
    measure=beyond.table,
    extra=beyond.look,
    quick={
        "rounds": 1,
        "sampling": {"problems_per_round": 32},
        "probe": {"problems": 40, "baseline_samples": 8},
    },
    quick_arms=("unguarded",),
    further=FURTHER,
)

EXPERIMENT = Experiment(
    STUDY,
    title="A real language model, guarded and not",
    claim=(
        "SmolLM2-135M, warm-started on demonstrations in several ways, learns from its own right"
        " answers to ASDiv's word problems: it gains pass@1, and what it loses is pass@64, ways of"
        " solving a problem, and calibration. The guard keeps them."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2),
    notes=notes,
)
