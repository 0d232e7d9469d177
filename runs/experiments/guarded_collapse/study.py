"""Arms of self-training on the arithmetic world.

Ways to collapse, healthy ways, fixed shares of real data, and the guarded one.

Every arm draws the same problems and as many samples from the same base, unsteered unless it says
`guarded`; the rule's decisions are written down in all of them, so that its delays and false
alarms can be read off real runs.
"""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study

from . import planted, second_look
from .arms import ARMS, BASE
from .figure import draw
from .findings import COLUMNS, goals
from .notes import notes

STUDY = Study(
    "guarded_collapse",
    BASE,
    ARMS,
    made={"planted": planted.plant},
    measure=second_look.table,
    extra=second_look.look_again,
    quick={"rounds": 4},
)


EXPERIMENT = Experiment(
    STUDY,
    title="Collapse, guarded and not",
    claim=(
        "A guarded loop keeps the strategies that the same loop loses unguarded, at no cost of"
        " accuracy, and warns in time."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
    notes=notes,
)
