"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.rounds import mean_of
from ouroloop.loop.views.reader import RoundData, read_run

# The lines that a trace calls for after the model's own lines: that study's reader of beginnings.
from ..exposure_bias.beginnings import next_lines, steps_of, true_lines
from . import longer
from .longer import DIGITS, Answer


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table`, what was trained on, and the sums by number of digits."""
    return [
        {**row, **trained(found), **by_digits(longer.read(path, found.number))}
        for row, found in zip(rounds.table(path), read_run(path).rounds, strict=True)
    ]


def trained(found: RoundData) -> dict[str, float]:
    """Examples, and the share of the round's kept samples whose answer is wrong."""
    kept = found.verdicts[found.verdicts["kept"]] if len(found.verdicts) else found.verdicts
    return {
        "examples": float(len(found.examples)),
        "wrong_traces": mean_of(1.0 - (c is True or c == 1) for c in kept["correct"])
        if len(kept)
        else math.nan,
    }


def by_digits(answers: Sequence[Answer]) -> dict[str, float]:
    """Sums of d digits.

    digits_d: right at T = 1; greedy_d: greedy. head_d: the first line says the sum. line_d: right
    lines after it, as built on the model's own lines before them, where those follow a strategy.
    compounded_d: what digits_d would be if first and later lines were as often right as those of
    two digits, and longer sums only took more of them.
    """
    task, out = ArithmeticTask(), dict[str, float]()
    items = {p.id: p for d in DIGITS for p in longer.problems(d)}
    needed = dict[int, list[int]]()
    for d in DIGITS:
        mine = [(items[a["problem"]], a) for a in answers if a["digits"] == d]
        drawn = [(p, a["text"]) for p, a in mine if a["index"] >= 0]
        greedy = [(p, a["text"]) for p, a in mine if a["index"] < 0]
        begun = [(p, t) for p, t in drawn if begins(p, t)]
        steps = [step for p, t in begun for step in steps_of(p, t) if step.followed]
        out[f"digits_{d}"] = mean_of(task.grade(p, t).correct is True for p, t in drawn)
        out[f"greedy_{d}"] = mean_of(task.grade(p, t).correct is True for p, t in greedy)
        out[f"head_{d}"] = mean_of(begins(p, t) for p, t in drawn)
        out[f"line_{d}"] = mean_of(step.right for step in steps)
        needed[d] = [lines_needed(p, t) for p, t in drawn]
    first, each = (out[f"{name}_{DIGITS[0]}"] for name in ("head", "line"))
    for d in DIGITS:
        out[f"compounded_{d}"] = mean_of(first * each**num for num in needed[d])
    return out


def begins(problem: Problem, text: str) -> bool:
    """Whether a text begins with the problem's first line, so that lines can be called for.

    An answer alone has no lines.
    """
    return bool(next_lines(problem.family, text.split("\n")[:1])) and text.startswith(
        st.head(problem.family, problem.metadata["a"], problem.metadata["b"]) + "\n"
    )


def lines_needed(problem: Problem, text: str) -> int:
    """Lines after the first that a right trace takes, in the strategy that the text begins.

    Of several that it may be, and where it begins none, the shortest.
    """
    called = next_lines(problem.family, text.split("\n")[:2])
    names = called or st.STRATEGIES[problem.family]
    lengths = [len(lines) for name in names if (lines := true_lines(problem, name))]
    # A text that misread the sum may begin what does not apply to the sum that was asked.
    return min(lengths or [len(true_lines(problem, "column"))]) - 1
