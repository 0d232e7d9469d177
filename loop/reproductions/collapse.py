"""Does self-training collapse? Replace, accumulate and accumulate-subsample (2404.01413.

2410.16713), beside a fixed anchor and the guarded loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments import collapse
from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results, Study, merge
from ouroloop.loop.experiments.tables import Columns, gain, kept, last, times
from ouroloop.loop.reproductions.base import Reproduction, has

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
"""What the study's rounds are cut down to.

So that thirty runs of fifteen rounds take 35 to 45 minutes on two cores.
"""
UNFILTERED = collapse.ARMS["replace"]
"""As published: every sample is trained on, at T = 1."""

STUDY = Study(
    "collapse",
    merge(collapse.BASE, SMALLER),
    {
        "replace": UNFILTERED,
        "accumulate": {
            **UNFILTERED,
            "dataset": {"policy": "accumulate"},
            "sft": {"num_train_epochs": 1},
        },
        "accumulate_subsample": {**UNFILTERED, "dataset": {"policy": "accumulate_subsample"}},
        "answer_filtered": {},
        "anchored": {"dataset": {"replay_fraction": 0.3}},
        "guarded": collapse.ARMS["guarded"],
    },
    quick={"rounds": 6},
    quick_arms=("replace", "accumulate", "answer_filtered", "guarded"),
)

COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "pass@8": (last("pass_k"), "%"),
    "other structures, pass@8": (collapse.structures, "%"),
    "strategies alive": (last("alive"), ""),
    "DCP kept": (kept("dcp"), "%"),
    "token entropy, nats": (last("entropy"), ""),
    "real text, nats a token": (last("text_cross_entropy"), ""),
    "over-confidence": (last("overconfidence"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published order, and what the guard adds."""
    out = []
    if has(results, "replace", "accumulate"):
        asks = "accumulating keeps more pass@1 than replacing, unfiltered (interval above 0)"
        out.append(
            Goal.above(asks, gain(results, "accumulate", "replace", last("pass_1")), unit="%")
        )
        asks = (
            "real text is likelier under the accumulating model (nats a token, replace minus"
            " accumulate; interval above 0)"
        )
        out.append(
            Goal.above(asks, gain(results, "replace", "accumulate", last("text_cross_entropy")))
        )
    if has(results, "replace", "accumulate_subsample"):
        asks = (
            "... and under the one that accumulates and takes as many steps as replacing (interval"
            " above 0)"
        )
        out.append(
            Goal.above(
                asks, gain(results, "replace", "accumulate_subsample", last("text_cross_entropy"))
            )
        )
    if has(results, "guarded", "answer_filtered"):
        asks = "guarded keeps more DCP than answer-filtered (times; interval above 1)"
        out.append(Goal.above(asks, times(results, "guarded", "answer_filtered", kept("dcp")), 1.0))
        asks = "guarded loses no greedy accuracy to answer-filtered (2 points, one-sided)"
        out.append(
            Goal.not_below(
                asks, gain(results, "guarded", "answer_filtered", last("greedy")), -0.02, "%"
            )
        )
    return out


def draw(results: Results, figure: Any) -> None:
    """pass@1, DCP and the loss on real text over the rounds."""
    panels = {
        "pass_1": "pass@1",
        "dcp": "distinct-correct-pair probability",
        "text_cross_entropy": "real text, nats a token",
    }
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        lines_over_rounds(axes, results, title, lambda row, name=name: float(row[name]))  # type: ignore[misc]
    legend_below(figure, 3)


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Collapse: replace, accumulate, anchor, guard",
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
        " answer-filtered, anchored and guarded arms (T = 0.7) stand beside them, and accuracy and"
        " breadth are measured too. Every round goes on training the last model, so that"
        " `accumulate` sees again what it has seen before: it gets half the epochs and still takes"
        " up to seven times as many steps; `accumulate_subsample` takes as many as `replace`."
        " Greedy accuracy here is that of 64 problems after the last round, which scatters by some"
        " three points from round to round; docs/studies has it of 150 problems over ten seeds."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
)
