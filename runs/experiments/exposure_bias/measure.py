"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments.afterwards import setting_of
from ouroloop.loop.folder.store import read_rows
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.estimators.majority import right_votes
from ouroloop.monitors.estimators.stats import mean, mean_in_unit, paired

from .beginnings import (
    FAMILIES,
    Samples,
    Step,
    next_lines,
    probe_samples,
    steps_of,
    true_lines,
)

# From this line on (0: the problem in signs, 1.
#
# The first calculation) a beginning holds at least one calculation of the model's own.
LATER = 2

NAN = math.nan


def table(path: Path) -> list[dict[str, Any]]:
    """Per family of the first and last round.

    A line `family` (accuracies), lines `line` (by position), lines `length` (by lines needed).
    """
    run = read_run(path)
    setting = setting_of(path)
    out: list[dict[str, Any]] = []
    for found in (run.rounds[0], run.rounds[-1]):
        lines, critiques = (
            read_rows(path / f"{name}-{found.number:03d}.parquet")
            for name in ("lines", "critiques")
        )
        samples, greedy = (
            probe_samples(found, setting),
            [r for r in read_rows(found.path / "probe.parquet") if r["kind"] == "greedy"],
        )
        for family in FAMILIES:
            mine = [(p, rows) for p, rows in samples if p.family == family]
            parts = [
                accuracies(mine, greedy, critiques),
                *by_position(mine, lines),
                *by_length(mine),
            ]
            out += [{"round": found.number, "family": family, **EMPTY, **part} for part in parts]
    return out


GAINS = tuple(
    f"{name}_gain{end}" for name in ("majority", "verified") for end in ("", "_low", "_high")
)

NUMBERS = (
    "at",
    "num",
    "single",
    "single_low",
    "single_high",
    "greedy",
    "majority",
    "verified",
    *GAINS,
    "true",
    "own",
    "kept",
    "on_course",
    "gap",
    "gap_low",
    "gap_high",
    "fall",
    "fall_low",
    "fall_high",
)

# Every column of a table; what a part does not know is NaN.
EMPTY: dict[str, Any] = {"part": "", **dict.fromkeys(NUMBERS, NAN)}


def accuracies(
    samples: Samples, greedy: Sequence[Mapping[str, Any]], critiques: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Accuracy of four ways to answer, and their gains, paired by problem.

    One sample, greedy decoding, the majority's answer, and the sample that the critic approves
    with the highest confidence.
    """
    sure: dict[str, dict[int, float]] = defaultdict(dict)
    for row in critiques:
        sure[row["problem"]][row["index"]] = (
            -1.0 if row["probability"] is None else row["probability"]
        )
    single, majority, verified = dict[str, float](), dict[str, float](), dict[str, float]()
    for problem, rows in samples:
        right, answer = [row["correct"] for row in rows], [row["answer"] for row in rows]
        single[problem.id] = float(np.mean(right))
        majority[problem.id] = right_votes(right, answer, len(rows))
        # Ties are split: the mean over all samples that the critic is equally sure of.
        best = max(sure[problem.id].values())
        verified[problem.id] = float(
            np.mean([right[i] for i, value in sure[problem.id].items() if value == best])
        )
    alone = [row["correct"] for row in greedy if row["problem"] in single]
    out = {"part": "family", "num": len(single), "greedy": float(np.mean(alone)), **shares(single)}
    out |= {
        name: float(np.mean(list(found.values())))
        for name, found in (("majority", majority), ("verified", verified))
    }
    for name, found in (("majority", majority), ("verified", verified)):
        gained = paired(found, single).interval()
        out |= {
            f"{name}_gain": gained.value,
            f"{name}_gain_low": gained.low,
            f"{name}_gain_high": gained.high,
        }
    return out


def shares(score: Mapping[str, float]) -> dict[str, float]:
    """The columns of one sample's accuracy, clustered by problem."""
    found = mean_in_unit(list(score.values()))
    return {"single": found.value, "single_low": found.low, "single_high": found.high}


def by_position(samples: Samples, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Next-line accuracy after own and after true beginnings, and the gaps by problem.

    A line per position, and one of all from `LATER` on.

    A sample's line is compared with lines sampled after the true beginning of the same strategy,
    problem and position, so that neither hard problems nor long strategies make a gap. true, own,
    gap: where the own beginning follows a strategy; a line is right when it is built on the values
    that stand there. kept, fall: everywhere; a line counts only on the true course, so that every
    earlier slip costs. `at` NaN: all positions from `LATER` on.
    """
    family_of = {p.id: p.family for p, _ in samples}
    after: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in lines:
        if row["problem"] in family_of:
            called = next_lines(family_of[row["problem"]], row["beginning"].split("\n"))
            after[row["problem"], row["beginning"]].append(row["text"] in called.values())
    found: dict[float, dict[str, list[tuple[Step, float]]]] = defaultdict(lambda: defaultdict(list))
    for problem, rows in samples:
        for row in rows:
            for step in steps_of(problem, row["text"]):
                true = float(np.mean(after[problem.id, "\n".join(step.beginning)]))
                for at in (float(step.position), *([math.inf] if step.position >= LATER else [])):
                    found[at][problem.id].append((step, true))
    # Infinity sorts last: the line of all later positions closes the table.
    return [_position(at, found[at]) for at in sorted(found)]


def _position(at: float, by_problem: Mapping[str, Sequence[tuple[Step, float]]]) -> dict[str, Any]:
    """The columns of a position from (step, accuracy after its true beginning) by problem."""

    def per_problem(value: Callable[[Step, float], float], followed: bool = False) -> list[float]:
        chosen = (
            [value(step, true) for step, true in steps if step.followed or not followed]
            for steps in by_problem.values()
        )
        return [float(np.mean(values)) for values in chosen if values]

    gap = mean(per_problem(lambda step, true: true - step.right, followed=True))
    fall = mean(per_problem(lambda step, true: true - (step.right and step.on_course)))
    return {
        "part": "line",
        "at": NAN if math.isinf(at) else at,
        "num": len(by_problem),
        "true": float(np.mean(per_problem(lambda _, true: true, followed=True) or [NAN])),
        "own": float(
            np.mean(per_problem(lambda step, _: float(step.right), followed=True) or [NAN])
        ),
        "on_course": float(np.mean(per_problem(lambda step, _: float(step.on_course)))),
        "kept": float(np.mean(per_problem(lambda step, _: float(step.right and step.on_course)))),
        **{
            f"{name}{end}": value
            for name, e in (("gap", gap), ("fall", fall))
            for end, value in zip(("", "_low", "_high"), e[:3], strict=True)
        },
    }


def by_length(samples: Samples) -> list[dict[str, Any]]:
    """Share of right samples by the number of lines that the problem takes.

    In the sample's strategy; of the samples that begin in one.
    """
    right: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for problem, rows in samples:
        for row in rows:
            needed = [
                len(t)
                for name in next_lines(problem.family, row["text"].split("\n")[:2])
                if (t := true_lines(problem, name))
            ]
            if needed:
                right[min(needed)][problem.id].append(float(row["correct"]))
    means = {
        length: {name: float(np.mean(v)) for name, v in by_problem.items()}
        for length, by_problem in right.items()
    }
    return [
        {"part": "length", "at": float(length), "num": len(score), **shares(score)}
        for length, score in sorted(means.items())
    ]
