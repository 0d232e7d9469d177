"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, gain, kept, last, times

from ..guarded_collapse.findings import structures

COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "pass@8": (last("pass_k"), "%"),
    "other structures, pass@8": (structures, "%"),
    "strategies alive": (last("alive"), ""),
    "DCP kept": (kept("dcp"), "%"),
    "token entropy, nats": (last("entropy"), ""),
    "real text, nats a token": (last("text_cross_entropy"), ""),
    "over-confidence": (last("overconfidence"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published order, and what the guard adds."""
    loss, accuracy = last("text_cross_entropy"), last("pass_1")
    # The published order first (replace < accumulate), then what is ours: the guard.
    return [
        Goal.above(
            "accumulating keeps more pass@1 than replacing, unfiltered (interval above 0)",
            gain(results, "accumulate", "replace", accuracy),
            unit="%",
        ),
        Goal.above(
            "real text is likelier under the accumulating model (nats a token, replace minus"
            " accumulate; interval above 0)",
            gain(results, "replace", "accumulate", loss),
        ),
        Goal.above(
            "... and under the one that accumulates and takes as many steps as replacing (interval"
            " above 0)",
            gain(results, "replace", "accumulate_subsample", loss),
        ),
        Goal.above(
            "guarded keeps more DCP than answer-filtered (times; interval above 1)",
            times(results, "guarded", "answer_filtered", kept("dcp")),
            1.0,
        ),
        Goal.not_below(
            "guarded loses no greedy accuracy to answer-filtered (2 points, one-sided)",
            gain(results, "guarded", "answer_filtered", last("greedy")),
            -0.02,
            "%",
        ),
    ]
