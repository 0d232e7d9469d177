"""Wrong calculations in real models' GSM8K solutions, counted once and kept in real.csv."""

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
from ouroloop.loop.experiments.tables import cell
from ouroloop.monitors.estimators.stats import Estimate, binomial

REAL = Path(__file__).with_name("real.csv")

SOLUTIONS = Path("gsm8k") / "model_solutions_first_660.jsonl"

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def real_table(path: Path = REAL) -> Sequence[str]:
    """Markdown lines of real.csv, or why there are none."""
    if not path.exists():
        return [
            "Real models' solutions: not counted yet. `python -m"
            " runs.experiments.wrong_steps.real` does it where OUROLOOP_DATA names the data."
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
    """Whether a calculation is wrong by more than a calculator's floating-point noise.

    Such noise looks like `4.2+9.45+1.35=14.999999999999998`.
    """
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
            # One solution per problem and model: solutions are independent, the interval is exact.
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


if __name__ == "__main__":
    raise SystemExit(main())
