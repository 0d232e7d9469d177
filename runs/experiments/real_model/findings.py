"""What is asked of the results, and the table of the page."""

from __future__ import annotations

from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    alarmed,
    average,
    gain,
    last,
    over_problems,
)
from ouroloop.monitors.estimators.stats import Estimate
from ouroloop.monitors.names import Action

# A guarded run may cost so much of pass@1, not more.
LOSS = 0.01


def watching(run: Rows) -> float:
    """Tokens of the probe set's answers as a share of all tokens that were sampled."""
    probed = sum(float(row["probe_tokens"]) for row in run)
    return probed / (probed + float(run[-1]["tokens"]))


COLUMNS: Columns = {
    "rounds": (last("round"), ""),
    "pass@1": (last("pass_1"), "%"),
    "greedy": (last("greedy"), "%"),
    "pass@8": (last("pass_k"), "%"),
    "pass@64, other problems": (last("far_pass_64"), "%"),
    "DCP": (last("dcp"), "%"),
    "over-confidence": (last("overconfidence"), "%"),
    "distinct byte n-grams": (last("text_variety"), "%"),
    "token entropy, nats": (last("entropy"), ""),
    "demonstrations' NLL, nats a token": (last("text_cross_entropy"), ""),
    "prose's NLL, nats a token": (last("prose_nll"), ""),
    "SVAMP, pass@1": (last("svamp_pass_1"), "%"),
    "SVAMP, pass@8": (last("svamp_pass_8"), "%"),
    "first WATCH or HALT": (alarmed, "round"),
    "first HALT": (lambda run: alarmed(run, Action.ROLLBACK, Action.HALT), "round"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
    "share of the watching": (watching, "%"),
}


# -- goals --------------------------------------------------------------------------------------


def goals(results: Results) -> list[Goal]:
    """The seed effect on a real model, and what the guard does about it."""
    return [
        # The seed effect: more often right, in fewer ways.
        Goal.above(
            "unguarded gains pass@1 over round 0 (interval above 0)",
            average(results, "unguarded", lambda run: gained(run, "pass_1")),
            unit="%",
        ),
        Goal.above(
            "unguarded loses pass@64, paired by problem (interval above 0)",
            lost(results, "unguarded", "far_pass_64"),
            unit="%",
        ),
        Goal.above(
            "unguarded loses DCP, paired by problem (interval above 0)",
            lost(results, "unguarded", "far_dcp"),
            unit="%",
        ),
        # What the guard is for, and what it may cost.
        Goal.not_below(
            "guarded over unguarded: pass@1 (no point lost, one-sided)",
            gain(results, "guarded", "unguarded", last("pass_1")),
            -LOSS,
            "%",
        ),
        Goal.not_below(
            "guarded: pass@64 over round 0's (not below, one-sided)",
            average(results, "guarded", last("far_pass_64_change")),
            0.0,
            "%",
        ),
        Goal.above(
            "guarded over unguarded: DCP (interval above 0)",
            gain(results, "guarded", "unguarded", last("far_dcp")),
            unit="%",
        ),
        Goal.above(
            "guarded on a standing 30 % over that share alone: DCP (interval above 0)",
            gain(results, "guarded_30", "real_30", last("far_dcp")),
            unit="%",
        ),
        Goal.above(
            "critique and revision over as many tokens without: pass@1 (interval above 0)",
            gain(results, "critique", "no_critique", last("pass_1")),
            unit="%",
        ),
    ]


def gained(run: Rows, name: str) -> float:
    """The last round's value less round 0's."""
    return float(run[-1][name]) - float(run[0][name])


def lost(results: Results, arm: str, name: str) -> Estimate:
    """How much an arm lost since round 0, over the problems: positive is a loss."""

    def of(run: Rows) -> Estimate:
        change, low, high = (float(run[-1][f"{name}_{part}"]) for part in ("change", "low", "high"))
        return Estimate(-change, -high, -low, 2)

    return over_problems(results, arm, of)
