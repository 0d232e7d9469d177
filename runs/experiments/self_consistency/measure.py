"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import EVERY
from ouroloop.monitors.estimators.majority import right_votes
from ouroloop.monitors.estimators.stats import paired
from ouroloop.monitors.metrics.calibration import ModelCalibration
from ouroloop.monitors.metrics.readings import most_samples, of

# Families with traces. Every strategy maps onto the sums, one alone onto the other two.
FAMILIES = ("sum2", "sum3", "missing", "multibuy")

ALL = "all"

PATHS = (1, 2, 3, 5, 10, 20, 40)

NUM_BINS = 10

# Column of the tables -> what the reliability diagram calls it.
BIN_KEYS = (("share", "confidence"), ("right", "accuracy"), ("count", "count"))


def table(path: Path) -> list[dict[str, Any]]:
    """A line per round and family, and one of all `FAMILIES` together.

    Accuracies, gains of the vote with their intervals, calibration.
    """
    return [row for found in read_run(path).rounds for row in _rows(found)]


def _rows(found: RoundData) -> Iterator[dict[str, Any]]:
    view = found.view
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

    Also the gain of the vote of all samples over the first two, paired by problem.
    """
    by_problem: dict[str, list[int]] = {}
    for i, problem in enumerate(sampled.problem):
        by_problem.setdefault(str(problem), []).append(i)
    # As many votes for every problem, or the vote's gain would depend on the problem.
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
    """Vote share against truth, and the points of the reliability diagram.

    Vote and share come from different halves of a problem's samples
    (`ouroloop.monitors.metrics.calibration`).
    """
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
