"""Exposure bias (1506.03099).

The next step after the model's own steps against that after true ones, and what a vote or a critic
recovers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments.afterwards import setting_of
from ouroloop.loop.experiments.beginnings import (
    FAMILIES,
    Panel,
    Step,
    next_lines,
    panel_samples,
    sample_more,
    steps_of,
    true_lines,
)
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study
from ouroloop.loop.experiments.tables import Columns, Rows, cell, over_problems
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.store import read_rows
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.estimators.majority import right_votes
from ouroloop.monitors.estimators.stats import Estimate, difference, mean, mean_in_unit, paired

LATER = 2
"""From this line on (0: the problem in signs, 1.

The first calculation) a beginning holds at least one calculation of the model's own.
"""
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
            panel_samples(found, setting),
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
EMPTY: dict[str, Any] = {"part": "", **dict.fromkeys(NUMBERS, NAN)}
"""Every column of a table; what a part does not know is NaN."""


def accuracies(
    samples: Panel, greedy: Sequence[Mapping[str, Any]], critiques: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One sample, greedy, the majority's answer.

    And the sample that the critic approves most surely; gains paired by problem.
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


def by_position(samples: Panel, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Next-line accuracy after own and after true beginnings, and the gaps by problem.

    A line per position, and one of all from `LATER` on.

    A sample's line is held against lines sampled after the true beginning of the same strategy,
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


def by_length(samples: Panel) -> list[dict[str, Any]]:
    """Share of right samples by the number of lines that the problem takes in the sample's strategy (of those that begin in one)."""
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


STUDY = Study(
    "exposure_bias",
    {
        "model": "arithmetic/base",
        "rounds": 2,
        "engine": SMALL_ENGINE,
        "task": {"kind": "arithmetic", "families": ["sum2", "sum3"]},
        "sampling": {
            "problems_per_round": 300,
            "samples_per_problem": 4,
            "temperatures": [1.0],
            "max_tokens": 110,
        },
        "refine": {"critique": False, "revisions": 0, "max_critique_tokens": 200},
        "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
        "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 2, "per_device_train_batch_size": 32},
        "probe": {
            "problems": 60,
            "family_problems": 60,
            "samples": 8,
            "baseline_samples": 8,
            "pass_at": 8,
            "majority": 8,
            "critiques": 0,
            "texts": 8,
            "audit_items": 0,
        },
        "monitors": {"guard": False},
        "tracking": {"mlflow": False},
    },
    {
        "gold_traces": {"sampling": {"student": False}, "dataset": {"gold": True}},
        "self_trained": {},
        "few_slips": {
            "model": "arithmetic/teacher",
            "sampling": {"student": False},
            "dataset": {"gold": True},
        },
    },
    measure=table,
    extra=sample_more,
    quick={"rounds": 1, "probe": {"problems": 40, "family_problems": 40}},
    quick_arms=("gold_traces", "self_trained"),
)


def pick(run: Rows, which: int, family: str, part: str = "family") -> list[dict[str, Any]]:
    """The lines of a part and family in the first (`which` 0) or the last (-1) round."""
    number = [row["round"] for row in run][which]
    return [
        dict(row)
        for row in run
        if row["round"] == number and row["family"] == family and row["part"] == part
    ]


def column(name: str, which: int, family: str) -> Any:
    """What a run's rows come to: a family's accuracy."""
    return lambda run: float(pick(run, which, family)[0][name])


def later(name: str, which: int, family: str) -> Any:
    """What a run's rows come to: a number of the line of all positions from `LATER` on."""
    return lambda run: float(
        next(row[name] for row in pick(run, which, family, "line") if math.isnan(row["at"]))
    )


def interval(
    results: Results, arm: str, name: str, which: int, family: str, part: str = "family"
) -> Estimate:
    """`name` with its interval over problems, of the family's line.

    Or of that of all later positions (`part` line).
    """

    def found(run: Rows) -> Estimate:
        row = next(
            row
            for row in pick(run, which, family, part)
            if part == "family" or math.isnan(row["at"])
        )
        return Estimate(
            float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]), int(row["num"])
        )

    return over_problems(results, arm, found)


COLUMNS: Columns = {
    f"sum3: {title}, {when}": (make(name, which, "sum3"), "%")
    for title, name, make in (
        ("one sample", "single", column),
        ("maj@8", "majority", column),
        ("the critic's pick of 8", "verified", column),
        ("next line after true lines", "true", later),
        ("... after its own", "own", later),
        ("own slips add up to", "fall", later),
    )
    for when, which in (("before", 0), ("after", -1))
}


def goals(results: Results) -> Sequence[Goal]:
    """Accuracy falls with length; own beginnings cost accuracy.

    A vote and a critic recover some.
    """
    out: list[Goal] = []
    arm = next((arm for arm in ("gold_traces", "self_trained") if has(results, arm)), None)
    if arm is None:
        return out
    drop = difference(*(interval(results, arm, "single", 0, family) for family in ("sum2", "sum3")))
    out.append(
        Goal.above(
            "the base: one digit more costs accuracy (one sample, sum2 less sum3; interval over"
            " problems above 0)",
            drop,
            unit="%",
        )
    )
    for family in FAMILIES:
        asks = (
            f"the base, {family}: from the second calculation on, own slips add up (a right line"
            " after true lines less one on the true course)"
        )
        out.append(Goal.above(asks, interval(results, arm, "fall", 0, family, "line"), unit="%"))
    for who, where in (("the base", arm), ("the model of few slips", "few_slips")):
        for family in FAMILIES if has(results, where) else ():
            asks = (
                f"{who}, {family}: and what is built on own lines is right less often than what is"
                " built on true ones (exposure bias proper)"
            )
            out.append(
                Goal.above(asks, interval(results, where, "gap", 0, family, "line"), unit="%")
            )
    for name, title in (("majority", "a vote of 8"), ("verified", "the critic's pick of 8")):
        for family in FAMILIES:
            asks = f"the base, {family}: {title} recovers part of what one sample loses"
            out.append(
                Goal.above(asks, interval(results, arm, f"{name}_gain", 0, family), unit="%")
            )
    return out


def notes(results: Results) -> Sequence[str]:
    """The gap before and after training, family by family.

    And one sample's accuracy by the lines that the problem takes.
    """
    lines = [
        "| arm | family | beginnings on the true course | gap, before | gap, after |",
        "|---|---|---|---|---|",
    ]
    for arm, runs in results.items():
        for family in FAMILIES:
            course = cell(mean([later("on_course", 0, family)(run) for run in runs.values()]), "%")
            gaps = [
                cell(interval(results, arm, "gap", which, family, "line"), "%") for which in (0, -1)
            ]
            lines.append(f"| {arm} | {family} | {course} | {' | '.join(gaps)} |")
    lines += [
        "",
        (
            "From the second calculation on. Gap (exposure bias proper): accuracy of a line after"
            " true lines less that of a line after the"
        ),
    ]
    lines += [
        "model's own, built on the values that stand there; same problem, strategy and position."
        " Intervals are over problems."
    ]
    arm = next(iter(results))
    lines += [
        "",
        f"| family ({arm}, before, one sample) | "
        + " | ".join(f"{n} lines" for n in LENGTHS)
        + " |",
        "|---" * (1 + len(LENGTHS)) + "|",
    ]
    for family in FAMILIES:
        cells = [_at_length(results, arm, family, length) for length in LENGTHS]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return lines


LENGTHS = (3, 4, 5, 6, 7)


def _at_length(results: Results, arm: str, family: str, length: int) -> str:
    runs = {
        seed: [row for row in pick(run, 0, family, "length") if row["at"] == length]
        for seed, run in results[arm].items()
    }
    there = {arm: {seed: rows for seed, rows in runs.items() if rows}}

    def found(run: Rows) -> Estimate:
        row = run[0]
        return Estimate(
            float(row["single"]),
            float(row["single_low"]),
            float(row["single_high"]),
            int(row["num"]),
        )

    return cell(over_problems(there, arm, found), "%")


def draw(results: Results, figure: Any) -> None:
    """Next-line accuracy of the base by position after true lines, after its own.

    And on the true course; and what a vote and the critic recover.
    """
    arm = next(iter(results))
    axes = figure.subplots(1, 3)
    styles = (
        ("true", "-", "after true lines"),
        ("own", "--", "after its own"),
        ("kept", ":", "on the true course"),
    )
    for panel, family in zip(axes, ("sum3", "missing"), strict=False):
        for i, where in enumerate((arm, *(a for a in results if a == "few_slips" and a != arm))):
            for key, style, title in styles:
                by_at: dict[float, list[float]] = defaultdict(list)
                for run in results[where].values():
                    for row in pick(run, 0, family, "line"):
                        if not math.isnan(row["at"]) and row["num"] >= 10:
                            by_at[row["at"]].append(row[key])
                at = sorted(by_at)
                label = f"{'few slips' if i else 'the base'}, {title}"
                panel.plot(
                    at,
                    [float(np.mean(by_at[x])) for x in at],
                    style,
                    color=f"C{i}",
                    marker=".",
                    linewidth=1,
                    label=label,
                )
        panel.set_title(f"{family}: next line right", fontsize=9)
        panel.set_xlabel("line (1: the first calculation)", fontsize=8)
    kinds = (
        ("single", "one sample"),
        ("greedy", "greedy"),
        ("majority", "maj@8"),
        ("verified", "critic's pick"),
    )
    for i, (key, title) in enumerate(kinds):
        heights = [
            mean([column(key, 0, family)(run) for run in results[arm].values()]).value
            for family in FAMILIES
        ]
        axes[2].bar(
            np.arange(len(FAMILIES)) + 0.2 * i, heights, 0.2, color=str(0.8 - 0.2 * i), label=title
        )
    axes[2].set_xticks(np.arange(len(FAMILIES)) + 0.3, FAMILIES)
    axes[2].set_title("the base: accuracy", fontsize=9)
    axes[2].legend(fontsize=7, frameon=False, ncols=2, loc="upper center")
    for panel in axes:
        panel.tick_params(labelsize=8)
        panel.set_ylim(0, 1.02 if panel is not axes[2] else 1.25)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=7,
        frameon=False,
    )


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Exposure bias: own steps against true ones, and what a vote or a critic recovers",
    paper=(
        "Bengio et al. 2015, arXiv 1506.03099; Arora et al. 2022, arXiv 2204.01171; He et al. 2019,"
        " arXiv 1905.10617; verification: Cobbe et al. 2021, arXiv 2110.14168"
    ),
    claim=(
        "Trained on true beginnings, a model errs more after its own, and the errors add up with"
        " length; samples that are voted on or verified recover part."
    ),
    published=(
        "| published | finding |",
        "|---|---|",
        (
            "| 1506.03099 | training on the model's own predictions now and then helps in"
            " captioning, parsing and speech |"
        ),
        (
            "| 2204.01171 | errors under the model's own beginnings add up faster than under true"
            " ones, and perplexity does not show it |"
        ),
        (
            "| 1905.10617 | exposure bias is either insignificant or cannot be told from the"
            " mismatch of data and model |"
        ),
        (
            "| 2110.14168 | the sample that a verifier ranks highest is right more often than one"
            " sample, on GSM8K |"
        ),
    ),
    differs=(
        "what adds up by itself (a slip spoils all that follows) is told apart from exposure bias"
        " proper (a line is wrong even as built on the values before it). The base has seen slips,"
        " honestly built on, in a third of its drafts; the model of few slips (the world's teacher)"
        " in 2 %. The critic is the model itself, trained on critiques of planted slips, not on its"
        " samples."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
