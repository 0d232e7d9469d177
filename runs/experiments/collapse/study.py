"""Does self-training collapse? Replace, accumulate, accumulate-subsample (2404.01413, 2410.16713).

Beside them: a fixed share of real data, and the guarded loop.
"""

from __future__ import annotations

from typing import Any

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study, merge

from ..guarded_collapse import arms as guarded
from .figure import draw
from .findings import COLUMNS, goals

# What the study's rounds are cut down to.
#
# So that thirty runs of fifteen rounds take 35 to 45 minutes on two cores.
SMALLER: dict[str, Any] = {
    "rounds": 15,
    "sampling": {"problems_per_round": 60},
    "sft": {"num_train_epochs": 2},
    "probe": {
        "problems": 64,
        "family_problems": 4,
        "samples": 8,
        "baseline_samples": 24,
        "majority": 8,
    },
}

# As published: every sample is trained on, at T = 1.
UNFILTERED = guarded.ARMS["replace"]

STUDY = Study(
    "collapse",
    merge(guarded.BASE, SMALLER),
    {
        "replace": UNFILTERED,
        "accumulate": {
            **UNFILTERED,
            "dataset": {"policy": "accumulate"},
            "sft": {"num_train_epochs": 1},
        },
        "accumulate_subsample": {**UNFILTERED, "dataset": {"policy": "accumulate_subsample"}},
        "answer_filtered": {},
        "replay_30": {"dataset": {"replay_fraction": 0.3}},
        "guarded": guarded.ARMS["guarded"],
    },
    quick={"rounds": 6},
    quick_arms=("replace", "accumulate", "answer_filtered", "guarded"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Collapse: replace, accumulate, replay real data, guard",
    paper="Gerstgrasser et al. 2024, arXiv 2404.01413; Kazdan et al. 2024, arXiv 2410.16713",
    claim=(
        "A model trained on its own samples in place of the old data gets worse round by round;"
        " where data accumulates, the loss stays bounded."
    ),
    published=(
        (
            "| workflow (Gemma 2 2B, HelpSteer2, 20 iterations; read from a figure) | loss on real"
            " text, first to last |"
        ),
        "|---|---|",
        "| replace | 1.08 to about 2.6 |",
        "| accumulate-subsample | 1.08 to about 1.22 |",
        "| accumulate | 1.08 to about 1.11 |",
    ),
    differs=(
        "the published loops do not filter, and measure the loss on real text alone; here"
        " answer-filtered, replayed (`replay_30`) and guarded arms (T = 0.7) stand beside them, and"
        " accuracy and breadth are measured too. Every round goes on training the last model, so"
        " that `accumulate` sees again what it has seen before: it gets half the epochs and still"
        " takes up to seven times as many steps; `accumulate_subsample` takes as many as `replace`."
        " Greedy accuracy here is that of 64 problems after the last round, which scatters by some"
        " three points from round to round; [guarded_collapse](../guarded_collapse/README.md) has"
        " it of 150 problems over ten seeds."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
)
