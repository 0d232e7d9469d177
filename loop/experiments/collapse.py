"""Arms of self-training on the arithmetic world.

Ways to collapse, healthy ways, fixed shares of real data, and the guarded one.

Every arm draws the same problems and as many samples from the same base, unsteered unless it says
`guarded`; the panel's decisions are written down in all of them, so that its delays and false
alarms can be read off real runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments import planted, rounds, second_look
from ouroloop.loop.experiments.drawing import legend_below
from ouroloop.loop.experiments.goals import Goal, goal_table
from ouroloop.loop.experiments.second_look import FALL, below_best, fell
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study, merge
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    alarmed,
    arm_table,
    cell,
    gain,
    kept,
    last,
)
from ouroloop.loop.views.figures import save_figure
from ouroloop.monitors.estimators.stats import Estimate, binomial, mean

NO_GOLD: dict[str, Any] = {"gold": False, "steps": False}

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 12,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic"},
    "sampling": {
        "problems_per_round": 200,
        "samples_per_problem": 4,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "replay_fraction": 0.0},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 150,
        "family_problems": 8,
        "samples": 16,
        "baseline_samples": 48,
        "pass_at": 8,
        "majority": 16,
        "critiques": 0,
        "texts": 32,
        "audit_items": 0,
    },
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

CRITIC: dict[str, Any] = {
    "refine": {"critique": True, "revisions": 0, "max_critique_tokens": 96},
    "filters": {**NO_GOLD, "critic": True},
    "probe": {"critiques": 60, "audit_items": 20},
}

REGIMES: dict[str, dict[str, Any]] = {
    "replace": {"filters": NO_GOLD, "sampling": {"temperatures": [1.0]}},
    "sharpen": {"filters": NO_GOLD},
    "answer_filtered": {},
    "critic_filtered": CRITIC,
    "healthy": {
        "sampling": {"temperatures": [1.0]},
        "filters": {"steps": True, "duplicates": "calculations"},
        "dataset": {"replay_fraction": 0.3},
    },
    "shortcut": {
        "model": "$planted",
        "task": {"loophole": True},
        "filters": {"gold": False, "steps": True},
        "sampling": {"temperatures": [1.0]},
    },
}
"""Five ways to collapse and a healthy one.

`shortcut`: a verifier with a hole, and a base that found it in a few of its samples (`planted.py`).
"""
LARGER_PANEL: dict[str, Any] = {
    "probe": {"problems": 500, "baseline_samples": 128},
    "monitors": {"baselines": [0]},
}
"""One that can see a drift of two points within a round or two."""
LARGER = {f"{arm}_500": merge(keys, LARGER_PANEL) for arm, keys in REGIMES.items()}
GUARD: dict[str, Any] = {"monitors": {"guard": True}}

ARMS: dict[str, dict[str, Any]] = {
    **REGIMES,
    **LARGER,
    "fixed_10": {"dataset": {"replay_fraction": 0.1}},
    "fixed_30": {"dataset": {"replay_fraction": 0.3}},
    "fixed_50": {"dataset": {"replay_fraction": 0.5}},
    "guarded": GUARD,
    "guarded_archive": {**GUARD, "interventions": {"demonstrations": 0.0}},
    "guarded_30": {**GUARD, "dataset": {"replay_fraction": 0.3}},
    "guarded_blend": {**GUARD, "interventions": {"blend": 0.3}},
    "guarded_teachers": {**GUARD, "interventions": {"teachers": 2}},
}
"""Arm -> what it changes in `BASE`. The `REGIMES`, and again under a larger panel (`_500`).

`guarded_archive`: what the guard re-injects is what was

lost and no real data besides. `guarded_30`: a standing share of it from the first round.
`guarded_blend`, `guarded_teachers`: remedies that are off unless asked for, 30 % of round 0's
weights in each start, and earlier checkpoints that draft too.
"""

STUDY = Study(
    "study-collapse",
    BASE,
    ARMS,
    made={"planted": planted.plant},
    measure=second_look.table,
    extra=second_look.look_again,
    quick={"rounds": 4},
)

STRUCTURES = ("sum3", "missing", "multibuy")
"""The tail: families that the loop never practises on, and that not every strategy maps onto.

(The world's own tail slice, sums with many carries,

is no harder for the base than the others: its pass@8 is at its ceiling wherever right answers are
kept, and tells nothing of them.)
"""
CONFIRMING = (5, 6, 7, 8, 9)
"""Seeds run to confirm it, unseen when it was fixed that this is the tail (decision 009)."""
UNMIXED = ("replace", "sharpen", "answer_filtered", "critic_filtered", "shortcut")
"""What they keep is all that they train on."""
GUARDED = tuple(arm for arm in ARMS if arm.startswith("guarded"))
FIXED = ("answer_filtered", "fixed_10", "fixed_30", "fixed_50")
"""Fixed shares of real data, none first: their frontier is what an adaptive share has to beat."""


def structures(run: Rows) -> float:
    """pass@8 in the last round on `STRUCTURES`.

    What is left for problems that the dominant pattern cannot map. NaN where it was not kept.
    """
    return sum(float(run[-1].get(f"{family}_pass_k", math.nan)) for family in STRUCTURES) / len(
        STRUCTURES
    )


def rarest(run: Rows) -> float:
    """The least of the strategies' shares of the last round's right samples."""
    return min(float(run[-1][f"share_{s}"]) for s in rounds.STRATEGIES)


REACHED: dict[str, Callable[[Rows], tuple[float, float]]] = {
    "pass@1 at the end, %": lambda run: (100 * float(run[-1]["pass_1"]), float(run[-1]["dcp"])),
    "other structures at the end, pass@8, %": lambda run: (
        100 * structures(run),
        float(run[-1]["dcp"]),
    ),
}
"""What the figure holds against the DCP that is left."""

COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "maj@16": (last("maj_k"), "%"),
    "other structures, pass@8": (structures, "%"),
    "many carries, pass@8": (last("tail_pass_k"), "%"),
    "DCP kept": (kept("dcp"), "%"),
    "strategies alive": (last("alive"), ""),
    "rarest share": (rarest, "%"),
    "over-confidence": (last("overconfidence"), "%"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
}


def goals(results: Results) -> list[Goal]:
    """What the guard is for: breadth kept without accuracy lost.

    Alarms that come in time and not without cause.
    """

    def guarded(column: Callable[[Rows], float]) -> Estimate:
        return mean([column(run) for run in results.get("guarded", {}).values()])

    def gained(column: Callable[[Rows], float]) -> Estimate:
        return gain(results, "guarded", "answer_filtered", column)

    alive = [rarest(run) >= 0.01 for run in results.get("guarded", {}).values()]
    unsteered = [
        run
        for arm, runs in results.items()
        if arm not in (*GUARDED, *LARGER)
        for run in runs.values()
    ]
    larger = [run for arm in LARGER for run in results.get(arm, {}).values()]
    spared = [
        math.isnan(alarmed(run, "rollback", "halt"))
        for arm in ("healthy", "healthy_500")
        for run in results.get(arm, {}).values()
    ]
    standing = gain(results, "guarded_30", "fixed_30", kept("dcp"))
    fresh = {
        arm: {seed: run for seed, run in runs.items() if seed in CONFIRMING}
        for arm, runs in results.items()
    }
    confirmed = gain(fresh, "guarded", "answer_filtered", structures)
    less_sure = gain(results, "answer_filtered", "guarded", last("overconfidence"))
    return [
        Goal.above("guarded keeps DCP (interval above 90 %)", guarded(kept("dcp")), 0.9, "%"),
        Goal(
            "guarded: the rarest strategy's share (at least 1 % in every seed)",
            guarded(rarest),
            all(alive) if alive else None,
            "%",
        ),
        Goal.above(
            "guarded over answer-filtered: the tail's pass@8, other structures (interval above 0)",
            gained(structures),
            unit="%",
        ),
        Goal.above(
            "... in the five seeds run to confirm it (interval above 0)", confirmed, unit="%"
        ),
        Goal.above(
            "guarded is less over-confident than answer-filtered (interval above 0)",
            less_sure,
            unit="%",
        ),
        Goal.not_below(
            "guarded over answer-filtered: greedy (no 2 points lost, one-sided)",
            gained(last("greedy")),
            -FALL,
            "%",
        ),
        Goal.not_below(
            "guarded over answer-filtered: maj@16 (no 2 points lost, one-sided)",
            gained(last("maj_k")),
            -FALL,
            "%",
        ),
        Goal.above(
            "guarded: DCP above the frontier of fixed shares at its own pass@1 (interval above 0)",
            above_frontier(results),
            unit="%",
        ),
        Goal.above(
            "guarded on top of a standing 30 % over that share alone: DCP kept (interval above 0)",
            standing,
            unit="%",
        ),
        Goal(
            "unsteered runs 2 points below round 0 that were warned at most one round later (all)",
            *in_time(unsteered),
            "%",
        ),
        Goal("... of the regimes under a panel of 500 problems (all)", *in_time(larger), "%"),
        Goal("healthy runs that were not halted, under either panel (all)", *counted(spared), "%"),
    ]


def in_time(runs: Sequence[Rows]) -> tuple[Estimate, bool | None]:
    """Of the runs that fell, the share that was warned no later than one round after."""
    return counted([alarmed(run) <= fell(run) + 1 for run in runs if not math.isnan(fell(run))])


def counted(held: Sequence[bool]) -> tuple[Estimate, bool | None]:
    """In which share of the runs something held, and whether in all; not known of no run."""
    return binomial(sum(held), len(held)), all(held) if held else None


def write(results: Results, out: Path) -> str:
    """Write report.md and figure.svg into `out`; returns what a terminal shows."""
    if not results:
        return f"{STUDY.name}: nothing is finished yet in {out}."
    text = page(results)
    (out / "report.md").write_text(text, encoding="utf-8")
    save_figure(partial(draw, results), out / "figure.svg", STUDY.name)
    return f"{text}\n{out / 'report.md'}"


def page(results: Results) -> str:
    """The arms' table, what was asked, what every run was told and when, as Markdown."""
    lines = [
        "# Collapse, guarded and not",
        "",
        (
            "Written by `ouroloop study collapse --table`; means over seeds, [95 % t interval over"
            " seeds]."
        ),
        "",
    ]
    lines += [*arm_table(results, COLUMNS), "", *goal_table(goals(results)), ""]
    lines += [
        (
            "| arm | seed | first WATCH or HALT | first HALT | 2 points below round 0 | below its"
            " best | modes named |"
        ),
        "|---" * 7 + "|",
    ]
    for arm, runs in results.items():
        for seed, run in runs.items():
            modes = ", ".join(sorted({str(row["mode"]) for row in run if row["mode"]})) or "-"
            when = [alarmed(run), alarmed(run, "rollback", "halt"), fell(run), below_best(run)]
            lines.append(
                f"| {arm} | {seed} |"
                f" {' | '.join('-' if math.isnan(w) else f'{w:.0f}' for w in when)} | {modes} |"
            )
    lines += again(results)
    by_kept, unchanged = foreseen(results)
    if math.isfinite(by_kept):
        told = f"{by_kept:.3f} by its share of those kept, {unchanged:.3f} if nothing changed"
        lines += ["", f"R² of a strategy's share of the next round's drafts: {told}."]
    lines += [
        "",
        "![DCP over the rounds, and at the end against pass@1 and other structures](figure.svg)",
    ]
    return "\n".join(lines) + "\n"


def again(results: Results) -> list[str]:
    """Markdown lines: what fresh samples said of rounds that were looked at again."""
    head = (
        f"| looked at again, {second_look.SAMPLES:,} fresh samples | round | pass@1, seen | fresh |"
        " tail's pass@k, seen | fresh |"
    )
    lines = []
    for arm, runs in results.items():
        for seed, run in runs.items():
            for row in run[1:]:
                if not math.isnan(row.get("fresh_change", math.nan)):
                    change = Estimate(
                        row["fresh_change"], row["fresh_change_low"], row["fresh_change_high"], 2
                    )
                    seen = [row[name] - run[0][name] for name in second_look.FALLING]
                    told = f"{100 * seen[0]:+.1f} | {cell(change, '%')} | {100 * seen[1]:+.1f}"
                    fresh = 100 * (row["fresh_tail_pass_k"] - run[0]["fresh_tail_pass_k"])
                    lines.append(f"| {arm} {seed} | {row['round']:.0f} | {told} | {fresh:+.1f} |")
    return ["", head, "|---" * 6 + "|", *lines] if lines else []


def foreseen(results: Results) -> tuple[float, float]:
    """R^2 of each strategy's share of the next round's samples.

    Foretold by its share of those kept, and by that of those drafted (nothing changes).

    Over rounds, strategies and runs that train on what they keep alone (`UNMIXED`); NaN where no
    run says what it kept.
    """
    told = [
        [
            float(row[f"{what}_{s}"])
            for row, what in ((now, "kept"), (now, "drafted"), (later, "drafted"))
        ]
        for arm in UNMIXED
        for run in results.get(arm, {}).values()
        for now, later in pairwise(run[1:])
        for s in rounds.STRATEGIES
        if f"kept_{s}" in now
    ]
    told = [
        shares for shares in told if all(map(math.isfinite, shares))
    ]  # a round may keep nothing
    if not told:
        return math.nan, math.nan
    kept_share, drafted, later = np.array(told).T
    spread = ((later - later.mean()) ** 2).sum()
    return tuple(
        float(1 - ((later - foretold) ** 2).sum() / spread) for foretold in (kept_share, drafted)
    )  # type: ignore[return-value]


def above_frontier(results: Results) -> Estimate:
    """How far the guarded arm's last DCP lies above the line through the fixed shares' (pass@1.

    DCP), seed by seed; in units of probability.

    The line is piecewise linear; beyond its ends the nearest end counts. Undefined unless a seed
    has every arm.
    """
    found = []
    for seed, run in results.get("guarded", {}).items():
        others = [results[arm][seed] for arm in FIXED if seed in results.get(arm, {})]
        if len(others) == len(FIXED):
            points = sorted((float(r[-1]["pass_1"]), float(r[-1]["dcp"])) for r in others)
            frontier = np.interp(
                float(run[-1]["pass_1"]), [x for x, _ in points], [y for _, y in points]
            )
            found.append(float(run[-1]["dcp"]) - float(frontier))
    return mean(found)


def draw(results: Results, figure: Any) -> None:
    """DCP over the rounds, the mean over seeds.

    What was reached against breadth kept: a point per run, the fixed shares' means joined, round 0.
    """
    from matplotlib import colormaps

    over, *ends = figure.subplots(1, 1 + len(REACHED), sharey=True)
    start = next(iter(next(iter(results.values())).values()))
    for i, (arm, runs) in enumerate(results.items()):
        color, star = colormaps["tab20"](i), arm in GUARDED
        by_round = zip_longest(
            *([float(row["dcp"]) for row in run] for run in runs.values()), fillvalue=math.nan
        )
        over.plot(
            [np.nanmean(values) for values in by_round],
            color=color,
            linewidth=2.5 if star else 1,
            label=arm,
        )
        for axes, of in zip(ends, REACHED.values(), strict=True):
            axes.scatter(
                *zip(*map(of, runs.values()), strict=True),
                color=color,
                marker="*" if star else "o",
                s=60 if star else 15,
            )
    for axes, (name, of) in zip(ends, REACHED.items(), strict=True):
        means = [
            np.mean([of(run) for run in results[arm].values()], axis=0)
            for arm in FIXED
            if arm in results
        ]
        if means:
            axes.plot(
                *zip(*sorted(map(tuple, means)), strict=True), color="0.6", linewidth=1, zorder=0
            )
        axes.scatter(*zip(of(start[:1]), strict=True), color="black", marker="+", s=60)
        axes.set_xlabel(name, fontsize=8)
    over.set_xlabel("round", fontsize=8)
    over.set_ylabel("distinct-correct-pair probability", fontsize=8)
    over.xaxis.get_major_locator().set_params(integer=True)
    for axes in (over, *ends):
        axes.tick_params(labelsize=8)
    legend_below(figure, 5)
