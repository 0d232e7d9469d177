"""Does self-critique help? Critique x revision x guard, with and without gold, at equal tokens."""

from __future__ import annotations

from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study

from . import chains, reviser
from .arms import ARMS, BASE
from .figure import draw
from .findings import COLUMNS, goals
from .measure import table
from .notes import notes

STUDY = Study(
    "self_critique",
    BASE,
    ARMS,
    made={"reviser": reviser.make},
    measure=table,
    extra=chains.look,
    quick={"rounds": 2, "probe": {"problems": 40}},
    quick_arms=("gold_drafts", "gold_both", "free_drafts", "free_critique"),
)

EXPERIMENT = Experiment(
    STUDY,
    title="Does self-critique help at all?",
    claim=(
        "At equal sampled tokens, critique and revision leave a better model than more drafts do."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
    notes=notes,
)
