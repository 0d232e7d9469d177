"""Twenty rounds of constitutional self-training without gold answers, guarded and not."""

from __future__ import annotations

from typing import Any

import yaml

from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import SMALL_ENGINE, Study, merge
from ouroloop.loop.views.reader import read_run

from .findings import COLUMNS, EXACT, SFT_ROUNDS, goals, notes
from .injected import RECIPE
from .measure import row

# As in runs/recipes/preference.yaml.
DPO = {
    "learning_rate": 1.0e-4,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 16,
    "beta": 0.1,
    "loss_type": ["sigmoid", "sft"],
    "loss_weights": [1.0, 0.2],
}
# Twenty rounds of the recipe's six. In a pilot (one seed) its own settings took a third of the
# helpful families' right greedy answers and a sixth of their diversity within three rounds, before
# the wording is guarded: drafts at T = 0.7 sharpen, and a round moves far. With these the same
# three rounds left violations at -75 %, 91 % of the helpful diversity, and sampled help as it was
# (greedy 52 -> 44 of 100 problems, 47 a round later).
GENTLE = {
    "sampling": {"temperatures": [1.0], "problems_per_round": 100},
    "dataset": {"replay_fraction": 0.5},
    "sft": {"learning_rate": 2.5e-4},
}
ITEMS = RECIPE.with_name("arithmetic_judge_items.jsonl")


def shipped() -> dict[str, Any]:
    """The recipe as it is shipped, its relative paths made absolute."""
    found: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    found["refine"]["constitution"] = str(principles.CONSTITUTION)
    found["judge"]["items"] = str(ITEMS)
    return found


STUDY = Study(
    "guarded_constitution",
    merge(
        merge(shipped(), GENTLE),
        {
            "rounds": 20,
            # As published: first the revisions are learnt, then they are preferred.
            "stages": [
                {"rounds": SFT_ROUNDS, "objective": "sft"},
                {"rounds": 10, "objective": "dpo"},
            ],
            "pairs": {"sources": ["revision"], "per_problem": 2},
            "dpo": DPO,
            "engine": SMALL_ENGINE,
            "probe": {"texts": 8},
            "tracking": {"mlflow": False},
        },
    ),
    {
        "guarded": {},
        "unguarded": {"monitors": {"guard": False}},
        # Without the last remedy (decision 037): 53 of 59 re-injections had none left.
        "guarded_no_blend": {"interventions": {"blend": 0.0}},
        # Prevention in the place of remedies: no text of a problem is learnt twice in a round. The
        # other arms learn each as often as it was sampled, which is what sharpens a model.
        EXACT: {"filters": {"duplicates": "exact"}},
        # As published: every revision is learnt, whatever a problem's samples agree on. This is the
        # loop that loses right answers, and the one that a guard is for.
        "unfiltered": {"filters": {"agreement": None}},
        "unfiltered_unguarded": {"filters": {"agreement": None}, "monitors": {"guard": False}},
    },
    measure=lambda path: [row(found) for found in read_run(path).rounds],
    quick={
        "rounds": 3,
        "stages": [{"rounds": 2, "objective": "sft"}, {"rounds": 1, "objective": "dpo"}],
        "sampling": {"problems_per_round": 40},
        "probe": {"problems": 40, "family_problems": 6, "critiques": 20},
    },
    quick_arms=("guarded", "unguarded"),
    # By the pilot 45 seconds a round on one idle core: two and a half hours for the two arms above.
    further=(EXACT, "guarded_no_blend", "unfiltered", "unfiltered_unguarded"),
)

EXPERIMENT = Experiment(
    STUDY,
    title="A constitution without collapse: guarded and not",
    claim=(
        "Guarded by a frozen judge and by its responses' diversity alone, a long constitutional run"
        " gets harmless, keeps its help and does not collapse."
    ),
    columns=COLUMNS,
    goals=goals,
    # Seed 0 was the pilot's, by which the settings were chosen.
    seeds=(1, 2, 3, 4, 5),
    notes=notes,
)
