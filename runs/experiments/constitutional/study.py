"""Constitutional self-training, supervised stage (Bai et al. 2212.08073).

Drafts are revised by principle, and the revisions distilled into the next model's drafts.
"""

from __future__ import annotations

from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study
from ouroloop.loop.views.reader import read_run

from . import assistant
from .figure import draw
from .findings import COLUMNS, goals, notes
from .measure import HELPFUL, RED_TEAM, REVISIONS, row

STUDY = Study(
    "constitutional",
    {
        "model": "arithmetic/assistant",
        "rounds": 3,
        "engine": SMALL_ENGINE,
        "task": {
            "kind": "arithmetic",
            "families": [RED_TEAM, *HELPFUL],
            "prompts": assistant.PROMPTS,
        },
        "sampling": {
            "problems_per_round": 400,
            "samples_per_problem": 2,
            "temperatures": [0.7],
            "max_tokens": 112,
        },
        "refine": {
            "critique": True,
            "revisions": REVISIONS,
            "revise_when": "always",
            "constitution": str(principles.CONSTITUTION),
            "families": [RED_TEAM],
            "max_critique_tokens": 48,
        },
        "filters": {"gold": False, "format": False, "duplicates": "none", "per_problem": None},
        "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 1, "per_device_train_batch_size": 16},
        "probe": {
            "problems": 200,
            "family_problems": 60,
            "samples": 2,
            "baseline_samples": 2,
            "pass_at": 2,
            "majority": 2,
            "critiques": 200,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        "constitutional": {},
        # As many samples, of half as many problems, so that there is something to vote on.
        "voted": {
            "sampling": {"problems_per_round": 200, "samples_per_problem": 4},
            "filters": {"agreement": 0.5},
        },
        # One thing taken away each: revisions, critiques, helpful samples, all of it.
        "one_revision": {"refine": {"revisions": 1}},
        "direct": {"refine": {"critique": False}},
        "red_team_only": {"task": {"families": [RED_TEAM]}},
        "unrevised": {"refine": {"critique": False, "revisions": 0}},
    },
    measure=lambda path: [row(found) for found in read_run(path).rounds],
    quick={
        "rounds": 2,
        "sampling": {"problems_per_round": 240},
        "probe": {"problems": 80, "family_problems": 24, "critiques": 60},
    },
    quick_arms=("constitutional", "direct"),
)

EXPERIMENT = Experiment(
    study=STUDY,
    title="Constitutional self-training: critique and revision by principle",
    paper="Bai et al. 2022, arXiv 2212.08073, supervised stage",
    claim=(
        "A helpful assistant that critiques and revises its own answers by written principles, and"
        " learns the revisions, becomes less harmful."
    ),
    published=(
        "| published (scored by a preference model; the figures print no numbers) | |",
        "|---|---|",
        "| constitution | 16 principles, one drawn per revision; up to 4 revisions |",
        "| figure 5 | harmlessness rises with each further revision |",
        "| figure 7 | critiqued revisions score above direct ones in smaller models |",
    ),
    differs=(
        "the assistant is the small base, fine-tuned on spoilt drafts, critiques and revisions that"
        " programs wrote, as many revisions without a critique as with one (one model for all"
        " seeds, so the intervals are of the loop's own chance). Four principles, each about one"
        " kind of line, so one revision can repair at most one of four. Violations are counted by"
        " programs, not scored by a preference model; three rounds, each from the last, instead of"
        " one training of the pretrained model; red-team prompts are a family of problems; drafts"
        " are sampled at T = 0.7. `voted` is not of the paper and was added after the other arms"
        " had been seen: four samples each of half as many problems, of which those stay whose"
        " answer half of the problem's samples share."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2),
    notes=notes,
)
