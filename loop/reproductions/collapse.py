"""Does self-training collapse? Replace, accumulate and accumulate-subsample (2404.01413, 2410.16713), beside a fixed anchor and the guarded loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loop.reproductions.base import Goal, Reproduction, has
from loop.studies import collapse
from loop.studies.study import Results, Study
from loop.studies.tables import Columns, Rows, gain, kept, last, times

UNFILTERED = {**collapse.ARMS["replace"], "rounds": 15}
"""As published: every sample is trained on, at T = 1."""

STUDY = Study(
    "collapse",
    {**collapse.BASE, "rounds": 15},
    {
        "replace": UNFILTERED,
        "accumulate": {**UNFILTERED, "dataset": {"policy": "accumulate"}},
        "accumulate_subsample": {**UNFILTERED, "dataset": {"policy": "accumulate_subsample"}},
        "answer_filtered": {},
        "anchored": {"dataset": {"anchor_share": 0.3}},
        "guarded": collapse.ARMS["guarded"],
    },
    quick={"rounds": 4, "sampling": {"problems_per_round": 100}, "probe": {"problems": 60, "family_problems": 2, "samples": 8, "majority": 8}},
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
        out.append(Goal.above(asks, gain(results, "accumulate", "replace", last("pass_1")), unit="%"))
        asks = "real text is likelier under the accumulating model (nats a token, replace minus accumulate; interval above 0)"
        out.append(Goal.above(asks, gain(results, "replace", "accumulate", last("text_cross_entropy"))))
    if has(results, "guarded", "answer_filtered"):
        asks = "guarded keeps more DCP than answer-filtered (times; interval above 1)"
        out.append(Goal.above(asks, times(results, "guarded", "answer_filtered", kept("dcp")), 1.0))
        asks = "guarded loses no greedy accuracy to answer-filtered (2 points, one-sided)"
        out.append(Goal.not_below(asks, gain(results, "guarded", "answer_filtered", last("greedy")), -0.02, "%"))
    return out


def draw(results: Results, figure: Any) -> None:
    """pass@1, DCP and the loss on real text over the rounds, a line per arm, thin lines per seed."""
    panels: Mapping[str, tuple[str, Callable[[Rows], list[float]]]] = {
        "pass_1": ("pass@1", lambda run: [float(r["pass_1"]) for r in run]),
        "dcp": ("distinct-correct-pair probability", lambda run: [float(r["dcp"]) for r in run]),
        "text_cross_entropy": ("real text, nats a token", lambda run: [float(r["text_cross_entropy"]) for r in run]),
    }
    for axes, (title, values) in zip(figure.subplots(1, len(panels)), panels.values(), strict=True):
        for i, (arm, runs) in enumerate(results.items()):
            for seed, run in runs.items():
                axes.plot([r["round"] for r in run], values(run), color=f"C{i}", linewidth=1, alpha=0.8, label=arm if seed == min(runs) else None)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("round", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Collapse: replace, accumulate, anchor, guard",
    paper="Gerstgrasser et al. 2024, arXiv 2404.01413; Kazdan et al. 2024, arXiv 2410.16713",
    claim="A model trained on its own samples in place of the old data gets worse round by round; where data accumulates, the loss stays bounded.",
    published=(
        "| workflow (Gemma 2 2B, HelpSteer2, 20 iterations; read from a figure) | loss on real text, first to last |",
        "|---|---|",
        "| replace | 1.08 to about 2.6 |",
        "| accumulate-subsample | 1.08 to about 1.22 |",
        "| accumulate | 1.08 to about 1.11 |",
    ),
    differs="the published loops do not filter, and measure the loss on real text alone; here answer-filtered, anchored and guarded arms (T = 0.7) "
    "stand beside them, and accuracy and breadth are measured too.",
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
)
