"""What is asked of the results, and the table of the page."""

from __future__ import annotations

from collections.abc import Callable

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, average, gain, kept, last
from ouroloop.monitors.estimators.stats import Estimate, mean

from .arms import FEW, FILTERS, REFINING, name_of
from .measure import OTHERS

# What may be lost without counting as a loss.
LOSS = 0.02

# How far an arm's sampled tokens may be from those of `both`.
EQUAL = 0.10

# Families that have steps and are practised, and the one that has steps and is never practised.
PRACTISED, LONGER = ("missing", "multibuy"), "sum3"


def others(run: Rows) -> float:
    """pass@1 of all families but the main one, in the last round."""
    return sum(float(run[-1][f"{family}_pass_1"]) for family in OTHERS) / len(OTHERS)


def practised(run: Rows) -> float:
    """pass@1 of the harder practised families in the last round."""
    return sum(float(run[-1][f"{family}_pass_1"]) for family in PRACTISED) / len(PRACTISED)


def revised(run: Rows) -> float:
    """Revisions as a share of all samples that were kept, over the rounds."""
    rows = run[1:]
    num_kept = sum(float(row["kept"]) for row in rows)
    if not num_kept:
        return float("nan")
    return sum(float(row["kept"]) * _or_0(row["kept_revised"]) for row in rows) / num_kept


def _or_0(value: float) -> float:
    # A round that kept nothing has no share; it adds nothing to the sum.
    return 0.0 if value != value else float(value)


def tokens(run: Rows) -> float:
    """Thousands of tokens that were sampled to train on, a round."""
    return float(run[-1]["tokens"]) / float(run[-1]["round"]) / 1000


COLUMNS: Columns = {
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "pass@8": (last("pass_k"), "%"),
    "harder practised families, pass@1": (practised, "%"),
    "longer sums, pass@1": (last(f"{LONGER}_pass_1"), "%"),
    "all other families, pass@1": (others, "%"),
    "DCP kept": (kept("dcp"), "%"),
    "over-confidence": (last("overconfidence"), "%"),
    "kept samples that are revisions": (revised, "%"),
    "kept samples that are right": (last("kept_right"), "%"),
    "sampled tokens a round, thousands": (tokens, ""),
}


# -- goals -------------------------------------------------


def goals(results: Results) -> list[Goal]:
    """Does critique, revision, or both, add at equal tokens; and what happens to calibration."""
    return [
        *refining(results),
        *guarding(results),
        *calibration(results),
        *eroding(results),
        Goal(
            f"every arm sampled within {EQUAL:.0%} of the tokens of `both` (largest difference)",
            (unequal := largest_difference(results)),
            None if unequal.value != unequal.value else unequal.value <= EQUAL,
            "%",
        ),
    ]


def refining(results: Results) -> list[Goal]:
    """Each way to refine against more drafts, with and without gold in the filter."""
    found = []
    said = {"gold": "with gold", "free": "without gold"}
    for filtered in FILTERS:
        plain = name_of(filtered, "drafts")
        for refined in REFINING:
            if refined == "drafts":
                continue
            arm = name_of(filtered, refined)
            for what, column in (
                ("pass@1", last("pass_1")),
                ("the harder practised families' pass@1", practised),
            ):
                found.append(
                    Goal.above(
                        f"{said[filtered]}: {refined} over more drafts, {what} (interval above 0)",
                        gain(results, arm, plain, column),
                        unit="%",
                    )
                )
        # Of the same drafts: is it worth more than nothing, at three times the tokens?
        found.append(
            Goal.above(
                f"{said[filtered]}: both over the same drafts alone (a third of the tokens), pass@1"
                " (interval above 0)",
                gain(results, name_of(filtered, "both"), name_of(filtered, FEW), _pass_1),
                unit="%",
            )
        )
        # What the critique itself adds to a revision.
        found.append(
            Goal.above(
                f"{said[filtered]}: a critique before the revision over a direct one, pass@1"
                " (interval above 0)",
                gain(results, name_of(filtered, "both"), name_of(filtered, "direct"), _pass_1),
                unit="%",
            )
        )
    return found


def _pass_1(run: Rows) -> float:
    return float(run[-1]["pass_1"])


def guarding(results: Results) -> list[Goal]:
    """What the guard keeps of the full system, and at which cost."""
    found = []
    for filtered in FILTERS:
        guarded, plain = name_of(filtered, "both", True), name_of(filtered, "both")
        found += [
            Goal.above(
                f"{guarded} over {plain}: DCP kept (interval above 0)",
                gain(results, guarded, plain, kept("dcp")),
                unit="%",
            ),
            Goal.not_below(
                f"{guarded} over {plain}: greedy (no 2 points lost, one-sided)",
                gain(results, guarded, plain, last("greedy")),
                -LOSS,
                "%",
            ),
        ]
    return found


def calibration(results: Results) -> list[Goal]:
    """Calibration gets worse under collapse: the distance from calibrated grows, seed by seed.

    The distance, not the signed number: a model that was under-confident and becomes calibrated has
    not become worse.
    """
    measures: dict[str, Callable[[Rows, int], float]] = {
        "votes, all families": distance("overconfidence"),
        "votes, families other than the practised main one": distance("over_others"),
        "mean token probability, main family": distance("token_gap"),
        "mean token probability, other families": distance("others_token_gap"),
    }
    found = [
        Goal.above(
            f"free_drafts: further from calibrated than round 0, {name} (interval above 0)",
            average(results, name_of("free", "drafts"), since_round_0(measured)),
            unit="%",
        )
        for name, measured in measures.items()
    ]
    found.append(
        Goal.above(
            "free_critique: its own critic approves more of its wrong drafts than the frozen judge"
            " does (interval above 0)",
            average(
                results,
                name_of("free", "critique"),
                lambda run: (
                    float(run[-1]["own_approves_wrong"]) - float(run[-1]["frozen_approves_wrong"])
                ),
            ),
            unit="%",
        )
    )
    return found


def eroding(results: Results) -> list[Goal]:
    """Critic and reviser get worse by training: nothing that a round learns is a critique.

    From the first round, which the starting model sampled, to the last one.
    """
    both, critique = name_of("gold", "both"), name_of("free", "critique")
    asked = (
        (f"{both}: fewer of the wrong drafts that are revised come out right", both, "repaired", 1),
        (f"{both}: more of the right drafts that are revised come out wrong", both, "spoilt", -1),
        (f"{both}: more of its critiques end without a verdict", both, "unreadable", -1),
        (f"{critique}: more of its critiques end without a verdict", critique, "unreadable", -1),
    )
    return [
        Goal.above(f"{asks} (interval above 0)", average(results, arm, worse(name, sign)), unit="%")
        for asks, arm, name, sign in asked
    ]


def worse(name: str, sign: int) -> Callable[[Rows], float]:
    """How much worse the last round is than the first; sign: 1 where a fall is worse, else -1."""
    return lambda run: sign * (float(run[1][name]) - float(run[-1][name]))


def distance(name: str) -> Callable[[Rows, int], float]:
    """The absolute value of a signed gap in a row of a run."""
    return lambda run, at: abs(float(run[at][name]))


def since_round_0(measured: Callable[[Rows, int], float]) -> Callable[[Rows], float]:
    """The last round's value less round 0's."""
    return lambda run: measured(run, -1) - measured(run, 0)


def largest_difference(results: Results) -> Estimate:
    """The largest relative difference of an arm's mean tokens a round from those of `both`.

    Among arms with the same filter, unguarded: a guarded run may change temperature, and end.
    """
    found = []
    for filtered in FILTERS:
        base = average(results, name_of(filtered, "both"), tokens).value
        for refined in REFINING:
            here = average(results, name_of(filtered, refined), tokens).value
            found.append(abs(here / base - 1))
    known = [value for value in found if value == value]
    return mean([max(known)]) if len(known) == len(found) else mean([])
