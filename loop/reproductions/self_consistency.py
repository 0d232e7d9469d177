"""Self-consistency (2203.11171).

A vote over forty sampled paths, what self-training leaves of its gain, and its vote share as a
confidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study
from ouroloop.loop.experiments.tables import Columns, Rows, cell, gain, over_problems
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.stages import probe
from ouroloop.loop.store import read_rows
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import EVERY
from ouroloop.monitors.estimators.majority import right_votes
from ouroloop.monitors.estimators.stats import Estimate, mean, paired
from ouroloop.monitors.metrics.calibration import ModelCalibration
from ouroloop.monitors.metrics.readings import most_samples, of

FAMILIES = ("sum2", "sum3", "missing", "multibuy")
"""Families with traces. Every strategy maps onto the sums, one alone onto the other two."""
TRAINED = ("sum3", "missing", "multibuy")
"""What the loop practises on: where single samples leave room."""
ALL = "all"
PATHS = (1, 2, 3, 5, 10, 20, 40)
NUM_BINS = 10
BIN_KEYS = (("share", "confidence"), ("right", "accuracy"), ("count", "count"))
"""Column of the tables -> what the reliability diagram calls it."""


def table(path: Path) -> list[dict[str, Any]]:
    """A line per round and family, and one of all `FAMILIES` together.

    Accuracies, gains of the vote with their intervals, calibration.
    """
    return [row for found in read_run(path).rounds for row in _rows(found)]


def _rows(found: RoundData) -> Iterator[dict[str, Any]]:
    view = probe.view(found.number, read_rows(found.path / "probe.parquet"), (), ())
    assert view.greedy is not None
    for family in (*FAMILIES, ALL):
        sampled, greedy = (_of(rows, family) for rows in (view.probe, view.greedy))
        yield {
            "round": found.number,
            "family": family,
            **votes(sampled, greedy),
            **calibration(found.number, sampled),
        }


def _of(samples: Samples, family: str) -> Samples:
    return (
        samples.where(np.isin(samples.family.astype(str), FAMILIES))
        if family == ALL
        else of(samples, "family", family)
    )


def votes(sampled: Samples, greedy: Samples) -> dict[str, float]:
    """Shares of problems right: one sample, greedy, the vote of k.

    And the gain of the vote of all over the two, paired by problem.
    """
    by_problem: dict[str, list[int]] = {}
    for i, problem in enumerate(sampled.problem):
        by_problem.setdefault(str(problem), []).append(i)
    most = min(len(rows) for rows in by_problem.values())

    def vote(problem: str, k: int) -> float:
        chosen = by_problem[problem][:most]
        return right_votes(sampled.correct[chosen].tolist(), sampled.answer[chosen].tolist(), k)

    voted = {problem: vote(problem, most) for problem in by_problem}
    single, alone = scores.accuracy(sampled), scores.accuracy(greedy)
    out = {
        "num": float(len(by_problem)),
        "single": float(np.mean(list(single.values()))),
        "greedy": float(np.mean(list(alone.values()))),
    }
    out |= {
        f"maj_{k}": float(np.mean([vote(p, k) for p in by_problem])) if k <= most else math.nan
        for k in PATHS
    }
    for name, other in (("single", single), ("greedy", alone)):
        found = paired(voted, other).interval()
        out |= {
            f"over_{name}": found.value,
            f"over_{name}_low": found.low,
            f"over_{name}_high": found.high,
        }
    return out


def calibration(number: int, sampled: Samples) -> dict[str, float]:
    """Vote share against truth, vote and share from different halves of a problem's samples (`ouroloop.monitors.metrics.calibration`), and the diagram's points."""
    every = ModelCalibration(vote_size=most_samples(sampled), main_family="")
    found = every.measure(RoundView(number, sampled), None)
    readings = {
        r.estimand.statistic.partition("@")[0]: r for r in found if r.estimand.family == EVERY
    }
    over, ece = readings["calibration/overconfidence"], readings["calibration/ece"]
    points = {round(bin_["low"] * NUM_BINS): bin_ for bin_ in over.details.get("bins", [])}
    out = {
        "overconfidence": over.value,
        "ece": ece.value,
        "resolution": readings["calibration/resolution"].value,
    }
    for i in range(NUM_BINS):
        out |= {
            f"{short}_{i}": float(points[i][key]) if i in points else math.nan
            for short, key in BIN_KEYS
        }
    return out


STUDY = Study(
    "self_consistency",
    {
        "model": "arithmetic/base",
        "rounds": 2,
        "engine": SMALL_ENGINE,
        "task": {"kind": "arithmetic", "families": list(TRAINED)},
        "sampling": {
            "problems_per_round": 300,
            "samples_per_problem": 8,
            "temperatures": [0.7],
            "max_tokens": 96,
        },
        "refine": {"critique": False, "revisions": 0},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": 4},
        "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 2, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 60,
            "family_problems": 32,
            "samples": 40,
            "baseline_samples": 40,
            "temperature": 0.7,
            "pass_at": 8,
            "majority": 40,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        "gold_filtered": {},
        "majority_voted": {"filters": {"gold": False, "agreement": 0.5}},
    },
    measure=table,
    quick={"rounds": 1, "probe": {"problems": 60, "family_problems": 16}},
)


def line(run: Rows, which: int, family: str = ALL) -> dict[str, Any]:
    """A family's line of the first (`which` 0) or last (-1) round."""
    return [dict(row) for row in run if row["family"] == family][which]


def column(name: str, which: int, family: str = ALL) -> Any:
    """What a run's rows come to: one number of one line."""
    return lambda run: float(line(run, which, family)[name])


def over(results: Results, arm: str, name: str, which: int, family: str = ALL) -> Estimate:
    """The gain of the vote over `name`, interval over problems."""

    def found(run: Rows) -> Estimate:
        row = line(run, which, family)
        value, low, high = (float(row[f"over_{name}{end}"]) for end in ("", "_low", "_high"))
        return Estimate(value, low, high, int(row["num"]))

    return over_problems(results, arm, found)


COLUMNS: Columns = {
    "greedy, before": (column("greedy", 0), "%"),
    "one sample, before": (column("single", 0), "%"),
    "maj@40, before": (column("maj_40", 0), "%"),
    "greedy, after": (column("greedy", -1), "%"),
    "one sample, after": (column("single", -1), "%"),
    "maj@40, after": (column("maj_40", -1), "%"),
    "over-confidence, before": (column("overconfidence", 0), "%"),
    "over-confidence, after": (column("overconfidence", -1), "%"),
    "ECE, before": (column("ece", 0), "%"),
    "ECE, after": (column("ece", -1), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published gain, what self-training leaves of it.

    And whether the vote share stays a confidence.
    """
    out = []
    if has(results, "gold_filtered"):
        arm = "gold_filtered"
        asks = (
            "before self-training, maj@40 is above one sample, all four families (interval over"
            " problems above 0)"
        )
        out.append(Goal.above(asks, over(results, arm, "single", 0), unit="%"))
        asks = "... and above greedy on sum3, where every strategy applies and greedy leaves room"
        out.append(Goal.above(asks, over(results, arm, "greedy", 0, "sum3"), unit="%"))
        asks = "... and above greedy, all four families"
        out.append(Goal.above(asks, over(results, arm, "greedy", 0), unit="%"))
        asks = (
            "self-training takes part of the gain over one sample into the weights (gain before"
            " less after; interval over seeds above 0)"
        )
        taken = [
            column("over_single", 0)(run) - column("over_single", -1)(run)
            for run in results[arm].values()
        ]
        out.append(Goal.above(asks, mean(taken), unit="%"))
        asks = "maj@40 after self-training is not below maj@40 before (one-sided)"
        changed = [
            column("maj_40", -1)(run) - column("maj_40", 0)(run) for run in results[arm].values()
        ]
        out.append(Goal.not_below(asks, mean(changed), 0.0, "%"))
    if has(results, "gold_filtered", "majority_voted"):
        asks = (
            "trained on voted answers, the vote share claims more against the truth than trained on"
            " gold (over-confidence, interval above 0)"
        )
        out.append(
            Goal.above(
                asks,
                gain(results, "majority_voted", "gold_filtered", column("overconfidence", -1)),
                unit="%",
            )
        )
    return out


def notes(results: Results) -> Sequence[str]:
    """Family by family: the three accuracies before and after."""
    lines = [
        (
            "| arm | family | greedy -> maj@40, before | greedy -> maj@40, after | over-confidence,"
            " before -> after |"
        ),
        "|---|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for family in FAMILIES:
            cells = {
                (name, which): cell(
                    mean([column(name, which, family)(run) for run in runs.values()]), "%"
                )
                for name in ("greedy", "maj_40", "overconfidence")
                for which in (0, -1)
            }
            shown = [f"{cells['greedy', which]} -> {cells['maj_40', which]}" for which in (0, -1)]
            lines.append(
                f"| {arm} | {family} | {' | '.join(shown)} | {cells['overconfidence', 0]} ->"
                f" {cells['overconfidence', -1]} |"
            )
    return lines


def draw(results: Results, figure: Any) -> None:
    """maj@k over k (all families, and sum3), and the vote share's reliability, before and after."""
    shown = [("base", next(iter(results)), 0), *((arm, arm, -1) for arm in results)]
    axes = figure.subplots(1, 3)
    for panel, family in zip(axes, ("sum3", ALL), strict=False):
        for i, (name, arm, which) in enumerate(shown):
            runs = list(results[arm].values())
            curve = [
                mean([column(f"maj_{k}", which, family)(run) for run in runs]).value for k in PATHS
            ]
            panel.plot(PATHS, curve, marker=".", color=f"C{i}", linewidth=1, label=name)
            panel.axhline(
                mean([column("greedy", which, family)(run) for run in runs]).value,
                color=f"C{i}",
                linewidth=0.7,
                linestyle=":",
            )
        panel.set_xscale("log")
        panel.set_xticks(PATHS, [str(k) for k in PATHS])
        panel.minorticks_off()
        panel.set_title(f"maj@k, {'four families' if family == ALL else family}", fontsize=9)
        panel.set_xlabel("paths k (dotted: greedy)", fontsize=8)
    axes[2].plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    for i, (_, arm, which) in enumerate(shown):
        points = np.array([_diagram(line(run, which)) for run in results[arm].values()])
        with np.errstate(invalid="ignore"):
            weight = np.nansum(points[:, 2], axis=0)
            share, right = (np.nansum(points[:, j] * points[:, 2], axis=0) / weight for j in (0, 1))
        axes[2].plot(share[weight > 0], right[weight > 0], marker=".", color=f"C{i}", linewidth=1)
    axes[2].set_title("vote share against truth", fontsize=9)
    axes[2].set_xlabel("share of the vote (other half)", fontsize=8)
    for panel in axes:
        panel.tick_params(labelsize=8)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )


def _diagram(row: dict[str, Any]) -> list[list[float]]:
    return [[float(row[f"{short}_{i}"]) for i in range(NUM_BINS)] for short, _ in BIN_KEYS]


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Self-consistency, and what self-training leaves of it",
    paper=(
        "Wang et al. 2022, arXiv 2203.11171; trained on voted answers: Huang et al. 2022, arXiv"
        " 2210.11610"
    ),
    claim=(
        "The most frequent answer of 40 sampled paths is right more often than the greedy one, and"
        " its share of the vote says how often."
    ),
    published=(
        "| PaLM 540B on GSM8K | accuracy |",
        "|---|---|",
        "| greedy chain of thought | 56.5 % |",
        "| self-consistency, 40 paths | 74.4 % |",
        "| the same after self-training on voted answers, no gold (2210.11610) | 82.1 % |",
    ),
    differs=(
        "the small base learnt from drafts with slips, so that one sample at T = 0.7 is much worse"
        " than greedy where a family is easy; the four families are pooled by problem (60 of sum3,"
        " 32 of each other), maj@k is the expectation over all k-subsets of the 40 samples, and the"
        " vote share's error is taken on split halves, unbiased."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
