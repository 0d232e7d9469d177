"""The arms: what is filtered by x how drafts are refined x guarded or not, at equal tokens."""

from __future__ import annotations

from itertools import product
from typing import Any

from ouroloop.loop.experiments.study import SMALL_ENGINE, merge

# sum2 at T = 0.7 leaves a critic nothing to do: in a pilot it rejected one draft in eight in round
# 1 and one in forty in round 2. At T = 1 every other draft is wrong, and missing addends and
# multiples are where this base errs most.
TEMPERATURE = 1.0
PRACTISED = ("sum2", "missing", "multibuy")

SAMPLES = 4

# Optimizer steps of a round: the same for every arm, whatever its budget of tokens bought.
STEPS = 30

BASE: dict[str, Any] = {
    "model": "$reviser",
    "rounds": 4,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic", "families": list(PRACTISED)},
    "sampling": {"samples_per_problem": SAMPLES, "temperatures": [TEMPERATURE], "max_tokens": 80},
    "refine": {"critique": False, "revisions": 0, "max_critique_tokens": 128},
    "filters": {"duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "replay_fraction": 0.0},
    "sft": {
        "learning_rate": 5.0e-4,
        "max_steps": STEPS,
        "per_device_train_batch_size": 32,
    },
    "probe": {
        "problems": 60,
        "family_problems": 6,
        "samples": 8,
        "baseline_samples": 16,
        "pass_at": 8,
        "majority": 8,
        "critiques": 0,
        "texts": 16,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}

# What the filter knows. Without gold nothing but the format is asked for.
FILTERS: dict[str, dict[str, Any]] = {
    "gold": {"filters": {"gold": True}},
    "free": {"filters": {"gold": False}},
}

# How a draft is refined. A critique that is asked for is used: its verdict is a filter too.
REFINING: dict[str, dict[str, Any]] = {
    "drafts": {},
    "critique": {"refine": {"critique": True}, "filters": {"critic": True}},
    # Without a critique nobody says which draft needs a revision: all get one.
    "direct": {"refine": {"revisions": 1, "revise_when": "always"}},
    "both": {"refine": {"critique": True, "revisions": 1}, "filters": {"critic": True}},
}

# Problems of a round, so that every arm samples as many tokens (drafts, critiques and revisions
# together) as `both`. By one run of `both` and one of `drafts`: over the rounds a draft takes 30
# tokens, a direct revision as many, a critique 54, and a sample of `both` 98, for it revises one
# draft in four at first and one in twenty at last. The page shows what was realised.
PROBLEMS: dict[str, int] = {"drafts": 196, "critique": 71, "direct": 98, "both": 60}

GUARDED = "_guarded"


def name_of(filtered: str, refined: str, guarded: bool = False) -> str:
    """The arm's name."""
    return f"{filtered}_{refined}{GUARDED * guarded}"


def _arm(filtered: str, refined: str, guarded: bool) -> dict[str, Any]:
    keys = merge(FILTERS[filtered], REFINING[refined])
    sampling = {"problems_per_round": PROBLEMS[refined]}
    return merge(keys, {"sampling": sampling, "monitors": {"guard": guarded}})


# As many drafts as `both`, of the same problems and seeds, and nothing else: a third of its tokens.
# What `both` adds to this is what critique and revision do to the same drafts; what `drafts` adds
# is what as many tokens buy in more of them.
FEW = "few"

ARMS: dict[str, dict[str, Any]] = {
    **{name_of(*how): _arm(*how) for how in product(FILTERS, REFINING, (False, True))},
    **{
        name_of(filtered, FEW): merge(
            _arm(filtered, "drafts", False),
            {"sampling": {"problems_per_round": PROBLEMS["both"]}},
        )
        for filtered in FILTERS
    },
}
