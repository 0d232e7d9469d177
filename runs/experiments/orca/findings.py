"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, average, last, times
from ouroloop.monitors.estimators.stats import mean

from .measure import NUM_ASKED
from .systems import FORMS, NAMES, NEEDED


def over(families: Sequence[str], key: str) -> Callable[[Rows], float]:
    """The mean over families of a score in the last round.

    Each family counts the same, as each task of BBH does.
    """
    return lambda run: sum(float(run[-1][f"{family}_{key}"]) for family in families) / len(families)


COLUMNS: Columns = {
    "need steps, greedy": (over(NEEDED, "greedy"), "%"),
    "need steps, pass@1": (over(NEEDED, "pass_1"), "%"),
    **{family: (last(f"{family}_greedy"), "%") for family in NEEDED},
    "skills, greedy": (over(world.SKILLS, "greedy"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published margin with and without a filter, and what the mix adds to the base.

    The last goal is that the mix learnt what each system prompt asks for.
    """
    # Greedy answers are compared, as published; T = 1 beside them, because greedy the base is good
    # already and leaves little to gain.
    greedy, sampled = over(NEEDED, "greedy"), over(NEEDED, "pass_1")
    return [
        Goal.above(
            "the mix is right more than twice as often as plain pairs where steps are needed,"
            " greedy (times; interval above 2)",
            times(results, "mix", "plain", greedy),
            2.0,
        ),
        Goal.above("the same at T = 1", times(results, "mix", "plain", sampled), 2.0),
        Goal.above(
            "the same, greedy, of the mix that learns from wrong answers too, as published",
            times(results, "mix_unfiltered", "plain", greedy),
            2.0,
        ),
        Goal.above(
            "the mix is right more often than the base before training where steps are needed, T ="
            " 1 (interval above 0)",
            average(results, "mix", lambda run: sampled(run) - sampled(run[:1])),
            unit="%",
        ),
        Goal.at_least(
            "that mix answers in the form that each system prompt asks for (mean of the four, at"
            " least 90 %)",
            average(results, "mix_unfiltered", followed),
            0.9,
            "%",
        ),
    ]


def followed(run: Rows) -> float:
    """Share of answers in the form that was asked for, mean over the system prompts."""
    return sum(float(run[-1][f"{name}_form"]) for name in NAMES.values()) / len(NAMES)


def notes(results: Results) -> Sequence[str]:
    """What the base could do before, and what each arm learnt.

    Also how each arm answers under every system prompt.
    """
    # Round 0 is the same base in every run: all of them estimate it.
    runs = [run for arm in results.values() for run in arm.values()]
    greedy, sampled = (
        mean([over(NEEDED, key)(run[:1]) for run in runs]) for key in ("greedy", "pass_1")
    )
    heads = [f"`{system or '(none)'}`" for system in FORMS]
    lines = [
        (
            f"Before training, where steps are needed: {100 * greedy.value:.1f} % greedy,"
            f" {100 * sampled.value:.1f} % pass@1. Below: greedy answers to {NUM_ASKED} problems of"
            " each of these families under each system prompt, right and in the form that it asks"
            " for."
        ),
        "",
        f"| arm | learnt: explanations, steps, answers; right, of how many | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
    ]
    for arm, found in results.items():

        def shown(key: str, scale: float = 100.0, found: Mapping[int, Rows] = found) -> str:
            return f"{scale * mean([float(run[-1][key]) for run in found.values()]).value:.0f}"

        learnt = ", ".join(shown(f"learnt_{form}") for form in dict.fromkeys(FORMS.values()))
        cells = [
            f"{shown(f'{name}_right')} %, {shown(f'{name}_form')} %" for name in NAMES.values()
        ]
        lines.append(
            f"| {arm} | {learnt} %; {shown('learnt_right')} % of {shown('learnt', 1.0)} |"
            f" {' | '.join(cells)} |"
        )
    return lines
