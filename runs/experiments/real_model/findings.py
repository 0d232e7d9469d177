"""What is asked of the results, and the table of the page."""

from __future__ import annotations

from collections.abc import Callable

from ouroloop.loop.experiments import tables
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Columns,
    Rows,
    alarmed,
    gain,
    last,
)
from ouroloop.monitors.estimators.stats import Estimate
from ouroloop.monitors.names import Action

# A guarded run may cost so much of pass@1, not more.
LOSS = 0.01


def watching(run: Rows) -> float:
    """Tokens of the probe set's answers as a share of all tokens that were sampled."""
    probed = sum(float(row["probe_tokens"]) for row in run)
    return probed / (probed + float(run[-1]["tokens"]))


def share(name: str) -> tuple[Callable[[Rows], float], str]:
    """The last row's value in per cent."""
    return last(name), "%"


COLUMNS: Columns = {
    "rounds": (last("round"), ""),
    "pass@1": share("pass_1"),
    "greedy": share("greedy"),
    "pass@8": share("pass_k"),
    "pass@64, other problems": share("far_pass_64"),
    "DCP": share("dcp"),
    "over-confidence": share("overconfidence"),
    "distinct byte n-grams": share("text_variety"),
    "token entropy, nats": (last("entropy"), ""),
    "demonstrations' NLL, nats a token": (last("text_cross_entropy"), ""),
    "prose's NLL, nats a token": (last("prose_nll"), ""),
    "SVAMP, pass@1": share("svamp_pass_1"),
    "SVAMP, pass@8": share("svamp_pass_8"),
    "first WATCH or HALT": (alarmed, "round"),
    "first HALT": (lambda run: alarmed(run, Action.ROLLBACK, Action.HALT), "round"),
    "sampled tokens, thousands": (lambda run: float(run[-1]["tokens"]) / 1000, ""),
    "share of the watching": (watching, "%"),
}


# -- goals --------------------------------------------------------------------------------------


def goals(results: Results) -> list[Goal]:
    """The seed effect on a real model, and what the guard does about it."""

    def more(arm: str, over: str, name: str) -> Estimate:
        return gain(results, arm, over, last(name))

    def over_plain(name: str) -> Estimate:
        return changed(results, f"{name}_over", "guarded")

    return [
        # The seed effect: more often right, in fewer ways.
        shown("unguarded gains pass@1, paired by problem", changed(results, "far_pass_1")),
        shown(
            "unguarded loses pass@64, paired by problem", changed(results, "far_pass_64", lost=True)
        ),
        shown("unguarded loses DCP, paired by problem", changed(results, "far_dcp", lost=True)),
        # What the guard is for, and what it may cost.
        Goal.not_below(
            "guarded over unguarded: pass@1, paired by problem (no point lost, one-sided)",
            over_plain("far_pass_1"),
            -LOSS,
            "%",
        ),
        Goal.not_below(
            "guarded: pass@64 over round 0's, paired by problem (not below, one-sided)",
            changed(results, "far_pass_64", "guarded"),
            0.0,
            "%",
        ),
        shown("guarded over unguarded: DCP, paired by problem", over_plain("far_dcp")),
        shown(
            "guarded on a standing 30 % over that share alone: DCP",
            more("guarded_30", "real_30", "far_dcp"),
        ),
        shown(
            "critique and revision over as many tokens without: pass@1",
            more("critique", "no_critique", "pass_1"),
        ),
    ]


def shown(asks: str, found: Estimate) -> Goal:
    """A share that is asked to be above 0, and its interval with it."""
    return Goal.above(f"{asks} (interval above 0)", found, unit="%")


def changed(results: Results, name: str, arm: str = "unguarded", *, lost: bool = False) -> Estimate:
    """How much an arm gained since round 0, or lost, over the problems; `_over`: over PLAIN."""
    found = tables.changed(results, arm, name)
    if not lost:
        return found
    return Estimate(-found.value, -found.high, -found.low, found.num_clusters)
