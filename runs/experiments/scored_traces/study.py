"""Frozen answers scored under every round's model, beside what the sampled probe set says.

How early and how surely does the probability of round 0's answers announce that strategies die?
Arms of `guarded_collapse` at half its size: one that sharpens until a strategy is left, one that
stays healthy on 30 % of real data. Nobody steers, so that every announcement can be compared with
what came.
"""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study, merge

from ..guarded_collapse.arms import BASE
from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import measure

# As many steps of training as there, from half of the samples; one baseline, so that what is
# announced is a loss since round 0.
SIZE: dict[str, Any] = {
    "rounds": 4,
    "sampling": {"problems_per_round": 100},
    "sft": {"per_device_train_batch_size": 16},
    "probe": {
        "problems": 120,
        "family_problems": 0,
        "samples": 8,
        "baseline_samples": 32,
        "pass_at": 4,
        "majority": 8,
        "texts": 64,
        "traces": 8,
    },
    "monitors": {"baselines": [0]},
}

ARMS: dict[str, dict[str, Any]] = {
    "sharpen": {"sampling": {"temperatures": [0.5]}, "filters": {"steps": True}},
    "fixed_30": {"dataset": {"replay_fraction": 0.3}},
}

STUDY = Study(
    "scored_traces",
    merge(BASE, SIZE),
    ARMS,
    measure=measure,
    quick={"rounds": 2, "sampling": {"problems_per_round": 50}},
)

EXPERIMENT = Experiment(
    STUDY,
    title="Answers scored instead of sampled",
    claim=(
        "The probability that round 0's right answers keep, strategy by strategy, announces the"
        " loss of distinct correct answers before it is there, and stays calm where a run is"
        " healthy."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2),
    notes=notes,
)
