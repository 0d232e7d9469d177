"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, gain, last

# Sampled paths that the arms of equal size train on.
#
# Each of them keeps more, so that all have as many.
EQUAL = 500

# Arms that run only when they are named.
FURTHER = ("k27", "k27_steps")

COLUMNS: Columns = {
    "sampled paths": (last("sampled"), ""),
    "... by wrong steps": (last("false_paths"), "%"),
    "distinct paths per question": (last("paths"), ""),
    "maj@1 (greedy)": (last("greedy"), "%"),
    "maj@4": (last("maj_k"), "%"),
    "pass@1, T = 1": (last("pass_1"), "%"),
    "greedy answers by a rarer strategy": (last("greedy_rarer"), "%"),
    "questions solved by one (4 samples)": (last("solved_rarer"), "%"),
}


# Arm, the arm that it should beat in maj@1, and the goal in words.
COMPARED = (
    (
        "k9",
        "gold",
        (
            "the model's own right paths add to supervised fine-tuning (maj@1, k9 minus gold;"
            " interval above 0)"
        ),
    ),
    (
        "k9",
        "gold_long",
        (
            "... and to supervised fine-tuning of three times the epochs (k9 minus gold_long;"
            " interval above 0)"
        ),
    ),
    (
        "models",
        "k9",
        "several models' paths add to the model's own (models minus k9; interval above 0)",
    ),
    (
        "with_teacher",
        "k9",
        (
            "... also where one of the three is another base (with_teacher minus k9; interval"
            " above 0)"
        ),
    ),
    (
        "with_teacher_steps",
        "with_teacher",
        (
            "... where wrong steps are turned away (with_teacher_steps minus with_teacher;"
            " interval above 0)"
        ),
    ),
    (
        "models_steps",
        "k9_steps",
        (
            "... and several models' paths add to the model's own (models_steps minus k9_steps;"
            " interval above 0)"
        ),
    ),
    (
        "models",
        "k27",
        "... and to as many samples of the one model (models minus k27; interval above 0)",
    ),
    (
        "models_steps",
        "k27_steps",
        (
            "... the same where wrong steps are turned away (models_steps minus k27_steps;"
            " interval above 0)"
        ),
    ),
    ("k9", "k1", "more distinct paths per question add (k9 minus k1; interval above 0)"),
    (
        "models_equal",
        "k9_equal",
        f"at {EQUAL} paths each, three models beat one (interval above 0)",
    ),
    (
        "temperatures_equal",
        "k9_equal",
        f"at {EQUAL} paths each, three temperatures beat one (interval above 0)",
    ),
)


def goals(results: Results) -> Sequence[Goal]:
    """Each published step, and that it is the mix and the paths, not the count and the steps."""
    return [
        Goal.above(asks, gain(results, arm, over, last("greedy")), unit="%")
        for arm, over, asks in COMPARED
    ]
