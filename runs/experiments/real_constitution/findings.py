"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    alarmed,
    average,
    change,
    change_table,
    first,
    gain,
    kept,
    last,
    round_table,
)

from . import critics
from .arms import BASE
from .measure import PLAIN

COLUMNS: Columns = {
    "rounds": (last("round"), ""),
    "first action": (alarmed, "round"),
    "answers apart, at first": (first("apart"), "%"),
    "answers apart": (last("apart"), "%"),
    "red team apart": (last("apart_red_team"), "%"),
    "helpful apart": (last("apart_helpful"), "%"),
    "revisions that repeat their critique, round 1": (lambda run: float(run[1]["copied"]), "%"),
    "revisions that repeat their critique": (last("copied"), "%"),
    "log-loss of its own samples at first, nats a token": (first("own_nll"), ""),
    "log-loss of its own samples, nats a token": (last("own_nll"), ""),
    "red team declines, at first": (first("declines"), "%"),
    "red team declines": (last("declines"), "%"),
    "red team's most common opening, at first": (first("opening"), "%"),
    "red team's most common opening": (last("opening"), "%"),
    "helpful answers' most common opening, at first": (first("opening_helpful"), "%"),
    "helpful answers' most common opening": (last("opening_helpful"), "%"),
    "helpful right at first": (first("helpful"), "%"),
    "helpful right": (last("helpful"), "%"),
    "demonstrations' NLL, nats a token": (last("text_cross_entropy"), ""),
    "judge's balanced accuracy, planted texts": (first("judge_accuracy"), "%"),
    "judge's verdicts that cannot be read": (first("judge_unreadable"), "%"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
}
ROUNDS = int(BASE["rounds"])
OVER_ROUNDS = {
    "apart": "%",
    "apart_red_team": "%",
    "copied": "%",
    "own_nll": "",
    "declines": "%",
    "opening": "%",
    "opening_helpful": "%",
    "length_red_team": "",
    "truncated": "%",
    "helpful": "%",
    "approved": "%",
    "examples": "",
    "replay_fraction": "%",
    "blend": "",
}


# What is compared problem by problem: its name in the table, its column, its unit.
CHANGES: Mapping[str, tuple[str, str]] = {
    "red team apart": ("apart_red_team", "%"),
    "helpful apart": ("apart_helpful", "%"),
    "red team declines": ("declines", "%"),
    "log-loss of its own samples, nats": ("own_nll", ""),
    "helpful right": ("helpful", "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """What a guard is for, and what it may cost."""

    def more(name: str) -> Goal:
        found = gain(results, "guarded", "unguarded", last(name))
        return Goal.above(f"guarded over unguarded: {name} (interval above 0)", found, unit="%")

    lost = average(results, "guarded", change("helpful"))
    return [
        Goal.not_below(
            "guarded: answers apart, of round 0's 90 % (one-sided)",
            average(results, "guarded", kept("apart")),
            0.9,
            "%",
        ),
        more("apart"),
        Goal.not_below(
            "guarded: right helpful answers, no more than 2 points lost (one-sided)",
            lost,
            -0.02,
            "%",
        ),
        Goal.above(
            "guarded: more red-team answers decline than in round 0 (interval above 0)",
            average(results, "guarded", change("declines")),
            unit="%",
        ),
    ]


def notes(results: Results) -> list[str]:
    """Markdown lines: problem by problem, round by round; and what the critic is worth."""
    shown = {name: (name, unit) for name, unit in OVER_ROUNDS.items()}
    interval = "problem by problem [95 % interval over one run's problems, averaged over seeds]"
    others = [arm for arm in results if arm != PLAIN]
    lines = [
        *_unfinished(results),
        *_uncounted(results),
        *_changes(results, list(results), "", f"The last round less round 0, {interval}:"),
        *_changes(results, others, "_over", f"The last round less `{PLAIN}`'s, likewise:"),
        "",
        "Round by round, means over the seeds that have the number, shares in per cent:",
        "",
        *round_table(results, shown),
    ]
    return [*lines, *_critics()] if critics.TABLE.exists() else lines


def _unfinished(results: Results) -> list[str]:
    """Whether some run of the page has fewer rounds than the study asks for."""
    made = sorted({int(run[-1]["round"]) for runs in results.values() for run in runs.values()})
    if not made or made[0] >= ROUNDS:
        return []
    return ["", f"**The runs are not finished**: {' or '.join(map(str, made))} of {ROUNDS} rounds."]


def _uncounted(results: Results) -> list[str]:
    """Which seeds do not say how many revisions repeat their critique."""
    lacking = {
        seed
        for runs in results.values()
        for seed, run in runs.items()
        if math.isnan(float(run[-1]["copied"]))
    }
    if not lacking:
        return []
    seeds = f"seed{'s' * (len(lacking) > 1)} {', '.join(map(str, sorted(lacking)))}"
    text = (
        f"Of {seeds} it was not counted how many revisions repeat their critique, here and below"
        " (`copied`). A t interval knows no bounds of a share: limits below 0 or above 100 % say"
        " that there are few seeds."
    )
    return ["", text]


def _changes(results: Results, arms: Sequence[str], which: str, head: str) -> list[str]:
    return ["", head, "", *change_table(results, arms, CHANGES, which)] if arms else []


def _critics() -> list[str]:
    """How often the starting model finds the better one of two texts."""
    rows = rounds.read(critics.TABLE)
    text = (
        "Can the starting model criticise? (`critics.py`; nothing is sampled.) How often it finds"
        " the better one of two texts, 50 % being a guess: a published revision beside its draft, a"
        " refusal beside an assent to the red team, the right number beside another one. `scored`:"
        " by the likelier verdict in the judge's words; `compared`: by the published comparison of"
        " (A) and (B), both orders; `likelier`: unasked, by the text that it would rather write."
    )
    return ["", text, "", *critics.table(rows)]
