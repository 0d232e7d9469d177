"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, average, cell, gain, last, markdown
from ouroloop.monitors.estimators.stats import mean

from .measure import OTHER, SKILLS
from .real import real_table


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
    """That there are such answers, that a step filter helps and costs nothing, critic included."""
    return [
        Goal.above(
            "of the right answers of round 1, more than 1 % have a wrong step (interval)",
            average(results, "gold", lambda run: float(run[1]["pool_wrong"])),
            0.01,
            "%",
        ),
        Goal.above(
            "the step filter lowers the share of wrong steps among right probe answers (gold minus"
            " gold_steps, last round; interval above 0)",
            gain(results, "gold", "gold_steps", last("wrong_share")),
            unit="%",
        ),
        Goal.above(
            "the step filter lowers it among the right answers sampled to train on, before the"
            " filter (the same, of the last round's pool)",
            gain(results, "gold", "gold_steps", last("pool_wrong")),
            unit="%",
        ),
        Goal.above(
            "more is right by right steps with the step filter (gold_steps minus gold; interval"
            " above 0)",
            gain(results, "gold_steps", "gold", last("by_right_steps")),
            unit="%",
        ),
        Goal.not_below(
            "the step filter costs no pass@1 (2 points, one-sided)",
            gain(results, "gold_steps", "gold", last("pass_1")),
            -0.02,
            "%",
        ),
        *_critic(results),
    ]


def _critic(results: Results) -> list[Goal]:
    # A critic that rejects everything catches all: what counts is the difference.
    caught, wasted = over_rounds("critic_catches"), over_rounds("critic_wastes")
    return [
        Goal.above(
            "the critic turns away more of the right answers by wrong steps than of those by right"
            " ones (difference of shares; interval above 0)",
            average(results, "gold_critic", lambda run: caught(run) - wasted(run)),
            unit="%",
        ),
        Goal.above(
            "the critic as filter lowers the share of wrong steps among right probe answers (gold"
            " minus gold_critic, last round; interval above 0)",
            gain(results, "gold", "gold_critic", last("wrong_share")),
            unit="%",
        ),
    ]


def notes(results: Results) -> Sequence[str]:
    """The pool round by round, what each filter catches, and the real models' solutions."""
    lines = [
        (
            "Right answers by wrong steps in the pool, before any filter, by round, and the share"
            " of them that is caught:"
        ),
        "",
    ]
    # Quick runs have fewer rounds.
    number = max(len(run) for runs in results.values() for run in runs.values())
    grid = [["arm", *(f"round {n}" for n in range(1, number))]]
    grid[0] += ["a check of each calculation", "the critic", "right steps lost to the critic"]
    for arm, runs in results.items():
        by_round = [
            cell(mean([float(run[n]["pool_wrong"]) for run in runs.values() if n < len(run)]), "%")
            for n in range(1, number)
        ]
        caught = [
            cell(mean([over_rounds(name)(r) for r in runs.values()]), "%")
            for name in ("sums_catch", "critic_catches", "critic_wastes")
        ]
        grid.append([arm, *by_round, *caught])
    return [*lines, *markdown(grid), "", *real_table()]
