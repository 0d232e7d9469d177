"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Callable

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    average,
    cell,
    first,
    gain,
    last,
    markdown,
)

from .longer import DIGITS, FIRST

# As many digits as most arms practise, and the next, which pretraining alone has shown.
PRACTISED, NEXT = 2, 3

COLUMNS: Columns = {
    "examples": (last("examples"), ""),
    "wrong traces among them": (last("wrong_traces"), "%"),
    "pass@1, T = 1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "pass@4": (last("pass_k"), "%"),
    "three digits, pass@1": (last("sum3_pass_1"), "%"),
    "DCP": (last("dcp"), "%"),
}


def goals(results: Results) -> list[Goal]:
    """The two claims; each sampled and greedy."""
    return [*against_answers(results), *longer_sums(results)]


def against_answers(results: Results) -> list[Goal]:
    """Unfiltered traces below answers alone; filtered ones not."""
    found = []
    for arm in ("unfiltered", "unfiltered_hot", "unfiltered_long", "unfiltered_hot_long"):
        answers = "answers_long" if arm.endswith("_long") else "answers"
        for shown, name in (("pass@1 at T = 1", "pass_1"), ("greedy", "greedy")):
            found.append(
                Goal.above(
                    f"{arm} leaves less than {answers}: {shown} (interval above 0)",
                    gain(results, answers, arm, last(name)),
                    unit="%",
                )
            )
    for hot in ("", "_hot"):
        found.append(
            Goal.above(
                f"filtered{hot} over unfiltered{hot}: pass@1 at T = 1 (interval above 0)",
                gain(results, f"filtered{hot}", f"unfiltered{hot}", last("pass_1")),
                unit="%",
            )
        )
    return found


def longer_sums(results: Results) -> list[Goal]:
    """Sums longer than trained on: worse than more lines alone would make them."""
    return [
        Goal.above(
            f"filtered: sums of {d} digits are right less often than as many lines of the accuracy"
            " at two digits would be (interval above 0)",
            average(results, "filtered", beyond(d)),
            unit="%",
        )
        for d in DIGITS
        if d > PRACTISED
    ] + [
        Goal.above(
            "practising three digits makes three digits better: filtered_longer over filtered"
            " (interval above 0)",
            gain(results, "filtered_longer", "filtered", last("digits_3")),
            unit="%",
        ),
        Goal.above(
            f"training on two digits costs {NEXT} digits: right lines, round 0 less the last"
            " (interval above 0)",
            average(results, FIRST, lambda run: line(run, 0, NEXT) - line(run, -1, NEXT)),
            unit="%",
        ),
    ]


def beyond(digits: int) -> Callable[[Rows], float]:
    """What longer sums lack beside the compounding of two digits' accuracy by line."""
    return lambda run: float(run[-1][f"compounded_{digits}"]) - float(run[-1][f"digits_{digits}"])


def line(run: Rows, at: int, digits: int) -> float:
    """The accuracy of a line after the model's own ones."""
    return float(run[at][f"line_{digits}"])


def notes(results: Results) -> list[str]:
    """By number of digits: right, greedy, by line, and what compounding alone would leave."""
    kinds = {"right, T = 1": "digits", "greedy": "greedy", "first line": "head"}
    kinds |= {"a line": "line", "compounded": "compounded"}
    lines = [
        "Sums by number of digits (two are practised; three are in one pretraining text of 20, four"
        " in none). A line: right, as built on the model's own lines before it."
        " First line: the sum, read. Compounded: right answers if both stayed as accurate as at two"
        " digits.",
        "",
    ]
    grid = [["model", *(f"{shown}: {d}" for shown in kinds for d in DIGITS)]]
    asked = [(FIRST, "the base", first)] + [(arm, arm, last) for arm in results]
    for arm, shown, which in asked:
        if results.get(arm):
            cells = [
                cell(average(results, arm, which(f"{kind}_{d}")), "%")
                for kind in kinds.values()
                for d in DIGITS
            ]
            grid.append([shown, *cells])
    return [*lines, *markdown(grid)]
