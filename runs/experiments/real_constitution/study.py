"""The published constitutional loop on a real model: SmolLM2-135M, guarded and not.

A run goes on where it was cut off, so that the study spreads over many sittings. On two cores
without bfloat16 units a round of both arms at once takes a quarter of an hour; round 0, and a round
that is a baseline, twice as long. With such units (OUROLOOP_STUDY_DTYPE=bfloat16) a round of one
arm takes four to five minutes.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study

from . import data, measure
from .arms import ARMS, BASE, FURTHER
from .figure import draw
from .findings import COLUMNS, goals, notes

STUDY = Study(
    "real_constitution",
    BASE,
    ARMS,
    made={"items": data.items},
    measure=measure.table,
    quick={
        "rounds": 1,
        "sampling": {"problems_per_round": 6},
        "probe": {"problems": 6, "family_problems": 4, "baseline_samples": 8},
    },
    quick_arms=("guarded",),
    further=FURTHER,
)

EXPERIMENT = Experiment(
    STUDY,
    title="The published constitutional loop on a real model, guarded and not",
    claim=(
        "SmolLM2-135M criticises and revises its answers to 281 red-team conversations by the"
        " published principles and learns the revisions, six times: it declines more, its answers"
        " grow alike, and the guard keeps them apart."
    ),
    differs=(
        "From Bai et al. (2212.08073): a chat model of 135 M parameters in the place of a helpful"
        " one of 52 B; word problems of ASDiv are the helpful prompts; refusals are counted by"
        " their wording, for the judge is the model itself before any training. Seed 0 was run in"
        " float32 under the decision rule of its day, seed 1 in bfloat16, under decision 045, the"
        " arm `answers` under 049, which halves no training set of free text, seed 2 and the arm"
        " `taught` under 050, which gives round 0 back in the place of what later rounds kept. By"
        " seed 2's guarded run under 049 the first goal and the third were not known yet: 93.9"
        " [87.4, 100.4] % and 0.6 [-5.1, 6.3] %; the fourth was not met by either."
    ),
    columns=COLUMNS,
    goals=goals,
    seeds=(0, 1, 2),
    notes=notes,
    draw=draw,
)
