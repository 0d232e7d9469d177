"""Right answers by wrong steps.

How many pass an answer-only filter, what training on them does, what a step gate and a critic gate
save.

`python -m ouroloop.loop.reproductions.wrong_steps` counts them in real models' GSM8K solutions (the
folder that OUROLOOP_DATA names) and writes real.csv.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals import steps
from ouroloop.evals.grading import grade
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.drawing import legend_below, lines_over_rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study
from ouroloop.loop.experiments.tables import Columns, Rows, cell, gain, last
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.estimators.stats import Estimate, binomial, mean

PRACTISED = ("missing", "sum3")
OTHER = ("sum2", "multibuy")
SKILLS = ("copy", "sort", "compare")
SIZE = 200
REAL = Path(__file__).parents[2] / "docs" / "reproductions" / "wrong_steps" / "real.csv"
SOLUTIONS = Path("gsm8k") / "model_solutions_first_660.jsonl"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 4,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic", "families": list(PRACTISED)},
    "sampling": {
        "problems_per_round": 400,
        "samples_per_problem": 4,
        "temperatures": [1.0],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "size": SIZE},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 120,
        "family_problems": 100,
        "samples": 4,
        "baseline_samples": 4,
        "pass_at": 4,
        "majority": 4,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}

ARMS: dict[str, dict[str, Any]] = {
    "gold": {},
    "gold_steps": {"filters": {"steps": True}},
    "gold_critic": {"refine": {"critique": True}, "filters": {"critic": True}},
}


def measure(path: Path) -> list[dict[str, Any]]:
    """One row per round; see `row`."""
    return [row(found) for found in read_run(path).rounds]


def row(found: RoundData) -> dict[str, Any]:
    """Shares of a round; NaN where there is nothing to divide.

    wrong_share: of the probe's right samples (practised families), those by wrong steps.
    pool_wrong: the same of what was sampled to train on. kept_wrong: of what the filter kept.
    sums_catch: share of the pool's right answers by wrong steps in which a plain check of each
    written calculation (all that real text allows) finds a fault. critic_catches, critic_wastes:
    shares of the right answers by wrong, by right steps that the critic does not approve of.
    """
    probe = found.probe
    sampled = probe[probe["kind"] == "sample"]
    mine = sampled[sampled["family"].isin(PRACTISED)]
    right = mine[mine["correct"] == 1]
    greedy = probe[(probe["kind"] == "greedy") & probe["family"].isin(PRACTISED)]
    out = {
        "round": found.number,
        "pass_1": _share(mine["correct"] == 1),
        "greedy": _share(greedy["correct"] == 1),
        "by_right_steps": _share((mine["correct"] == 1) & (mine["valid"] == 1)),
        "wrong_share": _share(right["valid"] == 0),
        **{
            f"{family}_pass_1": _share(sampled[sampled["family"] == family]["correct"] == 1)
            for family in (*PRACTISED, *OTHER, *SKILLS)
        },
    }
    if not len(found.verdicts):
        names = (
            "pool_right",
            "pool_wrong",
            "kept",
            "kept_wrong",
            "sums_catch",
            "critic_catches",
            "critic_wastes",
        )
        return {**out, **dict.fromkeys(names, float("nan"))}
    pool = found.verdicts
    passed = pool[pool["correct"].eq(True)]
    wrong, sound, kept = (
        passed[passed["valid"].eq(False)],
        passed[passed["valid"].eq(True)],
        pool[pool["kept"]],
    )
    asked = bool(pool["approved"].notna().any())
    return {
        **out,
        "pool_right": _share(pool["correct"].eq(True)),
        "pool_wrong": _share(passed["valid"].eq(False)),
        "kept": float(len(kept)),
        "kept_wrong": _share(kept["valid"].eq(False)),
        "sums_catch": _share([steps.check(text).valid is False for text in wrong["text"]]),
        "critic_catches": _share(~wrong["approved"].eq(True)) if asked else float("nan"),
        "critic_wastes": _share(~sound["approved"].eq(True)) if asked else float("nan"),
    }


def _share(flags: Any) -> float:
    values = [float(flag) for flag in flags]
    return sum(values) / len(values) if values else float("nan")


STUDY = Study(
    "wrong_steps",
    BASE,
    ARMS,
    measure=measure,
    quick={
        "rounds": 2,
        "sampling": {"problems_per_round": 300},
        "dataset": {"size": 150},
        "probe": {"problems": 60, "family_problems": 60},
    },
)


def over_rounds(name: str) -> Any:
    """A run's mean of a column over the rounds in which it is defined; NaN when it never is."""
    return lambda run: mean([float(r[name]) for r in run]).value


def other_families(run: Rows) -> float:
    """Mean pass@1 of the families that are not practised and have steps, after the last round."""
    return sum(float(run[-1][f"{family}_pass_1"]) for family in OTHER) / len(OTHER)


def skills(run: Rows) -> float:
    """Mean pass@1 of the unrelated skills after the last round."""
    return sum(float(run[-1][f"{family}_pass_1"]) for family in SKILLS) / len(SKILLS)


COLUMNS: Columns = {
    "wrong steps among what is kept": (over_rounds("kept_wrong"), "%"),
    "... among right answers of the last pool": (last("pool_wrong"), "%"),
    "... among right probe answers, after": (last("wrong_share"), "%"),
    "pass@1": (last("pass_1"), "%"),
    "right by right steps": (last("by_right_steps"), "%"),
    "greedy": (last("greedy"), "%"),
    "sum2, multibuy": (other_families, "%"),
    "skills": (skills, "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """That there are such answers, that a step gate helps against them and costs nothing.

    That the critic catches some.
    """
    out = []
    if has(results, "gold"):
        passing = mean([float(run[1]["pool_wrong"]) for run in results["gold"].values()])
        out.append(
            Goal.above(
                "of the right answers of round 1, more than 1 % have a wrong step (interval)",
                passing,
                0.01,
                "%",
            )
        )
    if has(results, "gold", "gold_steps"):
        asks = (
            "the step gate lowers the share of wrong steps among right probe answers (gold minus"
            " gold_steps, last round; interval above 0)"
        )
        out.append(
            Goal.above(asks, gain(results, "gold", "gold_steps", last("wrong_share")), unit="%")
        )
        asks = (
            "... and among the right answers sampled to train on, before the gate (the same, of the"
            " last round's pool)"
        )
        out.append(
            Goal.above(asks, gain(results, "gold", "gold_steps", last("pool_wrong")), unit="%")
        )
        asks = (
            "more is right by right steps with the step gate (gold_steps minus gold; interval"
            " above 0)"
        )
        out.append(
            Goal.above(asks, gain(results, "gold_steps", "gold", last("by_right_steps")), unit="%")
        )
        asks = "the step gate costs no pass@1 (2 points, one-sided)"
        out.append(
            Goal.not_below(asks, gain(results, "gold_steps", "gold", last("pass_1")), -0.02, "%")
        )
    if has(results, "gold_critic"):
        caught = mean(
            [
                over_rounds("critic_catches")(r) - over_rounds("critic_wastes")(r)
                for r in results["gold_critic"].values()
            ]
        )
        asks = (
            "the critic turns away more of the right answers by wrong steps than of those by right"
            " ones (difference of shares; interval above 0)"
        )
        out.append(Goal.above(asks, caught, unit="%"))
    if has(results, "gold", "gold_critic"):
        asks = (
            "the critic gate lowers the share of wrong steps among right probe answers (gold minus"
            " gold_critic, last round; interval above 0)"
        )
        out.append(
            Goal.above(asks, gain(results, "gold", "gold_critic", last("wrong_share")), unit="%")
        )
    return out


def notes(results: Results) -> Sequence[str]:
    """The pool round by round, what each gate catches, and the real models' solutions."""
    lines = [
        (
            "Right answers by wrong steps in the pool, before any gate, by round, and the share of"
            " them that is caught:"
        ),
        "",
    ]
    number = max(len(run) for runs in results.values() for run in runs.values())
    numbers = " | ".join(f"round {n}" for n in range(1, number))
    lines += [
        f"| arm | {numbers} | a check of each calculation | the critic | right steps lost to the"
        " critic |"
    ]
    lines += ["|---" * (number + 3) + "|"]
    for arm, runs in results.items():
        by_round = [
            cell(mean([float(run[n]["pool_wrong"]) for run in runs.values() if n < len(run)]), "%")
            for n in range(1, number)
        ]
        caught = [
            cell(mean([over_rounds(name)(r) for r in runs.values()]), "%")
            for name in ("sums_catch", "critic_catches", "critic_wastes")
        ]
        lines.append(f"| {arm} | {' | '.join([*by_round, *caught])} |")
    return [*lines, "", *real_table()]


def real_table(path: Path = REAL) -> Sequence[str]:
    """Markdown lines of real.csv, or why there are none."""
    if not path.exists():
        return [
            "Real models' solutions: not counted yet. `python -m"
            " ouroloop.loop.reproductions.wrong_steps` does it where OUROLOOP_DATA names the data."
        ]
    lines = [
        (
            "GSM8K, the first 660 test problems, four real models (and the gold solutions, for what"
            " the check itself takes for wrong):"
        ),
        "",
    ]
    lines += [
        "| model | answers | solutions | with a calculation to check | with a wrong one |",
        "|---|---|---|---|---|",
    ]
    for found in rounds.read(path):
        share = Estimate(found["share"], found["low"], found["high"], 2)
        lines.append(
            f"| {found['label']} | {found['part']} | {found['solutions']:.0f} |"
            f" {found['checkable']:.0f} | {cell(share, '%')} |"
        )
    return lines


def wrong_calculation(text: str) -> bool:
    """Whether a calculation is wrong by more than a calculator's floating-point noise (`4.2+9.45+1.35=14.999999999999998`)."""
    return any(not step.valid and not _noise(step) for step in steps.find_calculations(text))


def _noise(step: steps.Calculation) -> bool:
    try:
        return step.expected is not None and math.isclose(
            float(step.text.rpartition("=")[2]), step.expected, rel_tol=1e-9
        )
    except ValueError:
        return False


def count(problems: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of real.csv: per model the right and the wrong answers.

    How many have a calculation that can be checked, how many of all a wrong one.

    share: solutions with a wrong calculation / solutions, with the exact 95 % interval (each model
    has one solution per problem).
    """
    found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for problem in problems:
        gold = grade(None, problem["ground_truth"]).answer
        for name in MODELS:
            text = problem[name]["solution"]
            found.setdefault((name, "right" if grade(gold, text).correct else "wrong"), []).append(
                _seen(text)
            )
        found.setdefault(("gold solutions", "right"), []).append(_seen(problem["ground_truth"]))
    rows = []
    for (name, answers), checks in sorted(
        found.items(), key=lambda item: ((*MODELS, "gold solutions").index(item[0][0]), item[0][1])
    ):
        checkable, wrong = (sum(column) for column in zip(*checks, strict=True))
        share = binomial(wrong, len(checks))
        rows.append(
            {
                "label": name,
                "part": answers,
                "solutions": len(checks),
                "checkable": checkable,
                "wrong": wrong,
                "share": share.value,
                "low": share.low,
                "high": share.high,
            }
        )
    return rows


def _seen(text: str) -> tuple[bool, bool]:
    return bool(steps.calculations(text)), wrong_calculation(text)


def main() -> int:
    """Count and write real.csv; says so and writes nothing when the data is not there."""
    path = Path(os.environ.get("OUROLOOP_DATA", "")) / SOLUTIONS
    if "OUROLOOP_DATA" not in os.environ or not path.exists():
        print(
            f"no {SOLUTIONS} here: OUROLOOP_DATA must name the folder that holds gsm8k/. Nothing"
            " was written.",
            file=sys.stderr,
        )
        return 2
    rounds.write(
        count(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()), REAL
    )
    print("\n".join(real_table()))
    return 0


def draw(results: Results, figure: Any) -> None:
    """Wrong steps among right answers, and what is right by right steps, over the rounds."""
    titles = {
        "wrong_share": "right answers that hold a wrong step, %",
        "by_right_steps": "right by right steps, %",
    }
    for axes, (name, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        lines_over_rounds(axes, results, title, lambda row, name=name: 100 * float(row[name]))  # type: ignore[misc]
        axes.set_ylim(bottom=0)
    legend_below(figure, 3)


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Right answers by wrong steps",
    paper=(
        "The answer-only filter of STaR, Zelikman et al. 2022, arXiv 2203.14465, and of RFT, Yuan"
        " et al. 2023, arXiv 2308.01825"
    ),
    claim=(
        "A filter that looks at the final answer alone lets right answers by wrong steps through;"
        " trained on, they stay."
    ),
    published=(
        (
            "No published number is re-run. STaR learns from all rationales that led to a right"
            " answer, RFT from one per distinct list of calculations;"
        ),
        (
            "the question here is how many of those hold a wrong step, what learning them does, and"
            " which gate saves what."
        ),
    ),
    differs=(
        "in the small world the step gate knows the truth, so that it catches all by construction;"
        " real text has only a check of each written calculation, whose catch is told beside it."
        " The practised families are those where this base errs most: missing addends and"
        " three-digit sums, at T = 1. In the real solutions only written calculations are judged:"
        " the models had a calculator for annotated ones, and wrong reasoning with right"
        " calculations is not seen. That calculator's floating-point noise is not counted. That the"
        " pool is asked too was added after the quick run had been seen."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
    seeds=(0, 1, 2, 3, 4),
)


if __name__ == "__main__":
    raise SystemExit(main())
