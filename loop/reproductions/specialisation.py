"""Specialisation (2301.12726).

A small model distilled on one family gains there and loses the others; a share of real data
prevents the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.collapse import STRUCTURES
from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study
from ouroloop.loop.experiments.tables import Columns, Rows, alarmed, first, gain, last
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.decision.guarded import OTHERS
from ouroloop.monitors.estimators.estimand import OTHERS as OTHER_FAMILIES
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import mean

SKILLS = ("copy", "sort", "compare")
"""Families that are answered without steps; `STRUCTURES` are the other families with steps."""
TARGET_LOSS = 0.02
"""What real data in the training set may cost on the target family."""


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table`, with general ability (pass@1 over the problems of all other families) and what the panel says of it."""
    found = {r.number: r for r in read_run(path).rounds}
    return [{**row, **general(found[int(row["round"])])} for row in rounds.table(path)]


def general(found: RoundData) -> dict[str, float]:
    """pass@1 of the other families, its paired change since round 0, their greedy accuracy.

    And the loss that the panel sees.

    named: the panel acts and names it among its reasons.
    """
    reading = found.find(Estimand("accuracy/pass@1", OTHER_FAMILIES))
    change = (reading.details.get("change") if reading else None) or {}
    details = found.decision.get("details") or {}
    losses = [g["loss_in_tolerances"] for g in details.get("guards", []) if g["name"] == OTHERS]
    others = (
        found.probe[
            (found.probe["family"] != found.main_family) & (found.probe["kind"] == "greedy")
        ]
        if len(found.probe)
        else found.probe
    )
    return {
        "general_greedy": float(others["correct"].mean()) if len(others) else math.nan,
        "general": reading.value if reading else math.nan,
        **{f"change_{key}": _number(change.get(key)) for key in ("value", "low", "high")},
        "loss_in_tolerances": _number(losses[0]) if losses else math.nan,
        "named": float(
            found.action != "continue"
            and any(OTHERS in str(reason) for reason in found.decision.get("reasons", ()))
        ),
        "trained": float(found.train.get("status") != "skipped"),
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


STUDY = Study(
    "specialisation",
    {
        "model": "arithmetic/base",
        "teachers": ["arithmetic/teacher"],
        "rounds": 5,
        "engine": SMALL_ENGINE,
        "task": {"kind": "arithmetic", "families": ["sum2"]},
        "sampling": {
            "student": False,
            "problems_per_round": 200,
            "samples_per_problem": 4,
            "temperatures": [1.0],
            "max_tokens": 80,
        },
        "refine": {"critique": False, "revisions": 0},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
        "dataset": {"replay_fraction": 0.0},
        "sft": {"learning_rate": 2.0e-3, "num_train_epochs": 4, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 150,
            "family_problems": 40,
            "samples": 4,
            "baseline_samples": 8,
            "pass_at": 4,
            "majority": 4,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        "anchor_0": {},
        "anchor_10": {"dataset": {"replay_fraction": 0.1}},
        "anchor_30": {"dataset": {"replay_fraction": 0.3}},
        "guarded": {"monitors": {"guard": True}},
    },
    measure=table,
    quick={"rounds": 3, "probe": {"problems": 100, "family_problems": 24}},
    quick_arms=("anchor_0", "anchor_30"),
)


def mean_of(families: Sequence[str], which: int) -> Any:
    """What a run's rows come to: the mean pass@1 of these families in the first (`which` 0) or last (-1) round."""
    return lambda run: (
        sum(float(run[which][f"{family}_pass_1"]) for family in families) / len(families)
    )


def lost(run: Rows) -> float:
    """General ability in round 0 less that in the last round."""
    return float(run[0]["general"]) - float(run[-1]["general"])


def named(run: Rows) -> float:
    """The first round in which it named the other families' loss among its reasons.

    NaN if there is none.
    """
    return next((float(row["round"]) for row in run if float(row["named"]) > 0), math.nan)


def seen(run: Rows) -> float:
    """The first round whose general ability lies below round 0's by the reading's own interval; NaN if none does."""
    return next((float(row["round"]) for row in run if float(row["change_high"]) < 0), math.nan)


COLUMNS: Columns = {
    "target, before": (first("pass_1"), "%"),
    "target, after": (last("pass_1"), "%"),
    "target, greedy": (last("greedy"), "%"),
    "general, before": (first("general"), "%"),
    "general, after": (last("general"), "%"),
    "general greedy, before": (first("general_greedy"), "%"),
    "general greedy, after": (last("general_greedy"), "%"),
    "other steps, before": (mean_of(STRUCTURES, 0), "%"),
    "other steps, after": (mean_of(STRUCTURES, -1), "%"),
    "skills, before": (mean_of(SKILLS, 0), "%"),
    "skills, after": (mean_of(SKILLS, -1), "%"),
    "round in which the reading shows the loss": (seen, ""),
    "... the panel acts": (alarmed, ""),
    "... and names it": (named, ""),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published trade, what an anchor saves of it, and whether the panel says so in time."""
    out = []
    if has(results, "anchor_0"):
        runs = results["anchor_0"].values()
        asks = "distilled on one family, the target gains (pass@1, interval above 0)"
        out.append(
            Goal.above(
                asks, mean([last("pass_1")(run) - first("pass_1")(run) for run in runs]), unit="%"
            )
        )
        asks = "... and the other families lose (loss of pass@1, interval above 0)"
        out.append(Goal.above(asks, mean([lost(run) for run in runs]), unit="%"))
        asks = "... also greedy, as published (interval above 0)"
        out.append(
            Goal.above(
                asks,
                mean([first("general_greedy")(run) - last("general_greedy")(run) for run in runs]),
                unit="%",
            )
        )
        asks = (
            "the panel says so before the last round (share of runs in which it acts and names this"
            " loss)"
        )
        told = mean([float(named(run) < float(run[-1]["round"])) for run in runs])
        out.append(Goal.at_least(asks, told, 1.0, "%"))
    for arm in ("anchor_10", "anchor_30", "guarded"):
        if has(results, arm, "anchor_0"):
            asks = f"{arm} loses less of the other families than anchor_0 (interval above 0)"
            out.append(Goal.above(asks, gain(results, "anchor_0", arm, lost), unit="%"))
            asks = f"{arm} costs the target at most 2 points of pass@1 (mean over seeds)"
            out.append(
                Goal.at_least(
                    asks, gain(results, arm, "anchor_0", last("pass_1")), -TARGET_LOSS, "%"
                )
            )
    return out


def notes(results: Results) -> Sequence[str]:
    """What the panel decided, round by round."""
    lines = [
        "| arm | seed | decisions, round 1 on | what drove the last of them |",
        "|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for seed, run in runs.items():
            calls = [row for row in run if row["action"] != "continue"]
            lines.append(
                f"| {arm} | {seed} | {', '.join(str(row['action']) for row in run[1:])} |"
                f" {calls[-1]['driver'] if calls else '-'} |"
            )
    return lines


def draw(results: Results, figure: Any) -> None:
    """Target, other families with steps, and skills over the rounds."""
    panels: dict[str, Callable[[Rows], float]] = {
        "target (sum2)": first("pass_1"),
        "other families with steps": mean_of(STRUCTURES, 0),
        "skills without steps": mean_of(SKILLS, 0),
    }
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        lines_over_rounds(axes, results, f"{title}, pass@1", lambda row, value=value: value([row]))  # type: ignore[misc]
        axes.set_ylim(0, 1)
    legend_below(figure, 4)


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Specialisation: what distillation on one family costs the others",
    paper="Fu et al. 2023, arXiv 2301.12726",
    claim=(
        "A small model distilled on one kind of reasoning gains there and pays with its other"
        " abilities."
    ),
    published=(
        "| FlanT5 (250M to 11B), distilled on mathematical chain of thought | change |",
        "|---|---|",
        "| GSM8K and three other sets of word problems | up at every size |",
        "| BigBench-Hard with chain of thought | all of it lost |",
        "| BigBench-Hard, answers alone | a large part lost |",
    ),
    differs=(
        "the paper has no arm with real data mixed in, and no monitor; the loss there is measured"
        " on another benchmark, here on the world's other families: three with steps, three"
        " without. The teacher is a better small model, its samples are kept when their answer is"
        " right. The learning rate is four times that of the other studies: at theirs, three rounds"
        " of a first run cost the other families greedy accuracy alone."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    seeds=(0, 1, 2, 3, 4),
    notes=notes,
)
