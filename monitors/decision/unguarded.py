"""Why a quantity of scored samples is not guarded: the baseline's fault, or the round's."""

from __future__ import annotations

from ouroloop.monitors.decision.patterns import ALIVE_SHARE
from ouroloop.monitors.decision.tables import Ints, Pair, Table, Tables

NO_STRATEGIES = "no strategy ids, or no pair of right answers, at the baseline"
NO_NAMES = "no strategy ids at the baseline"
NO_RARE = "no strategy was right and rare at the baseline"
NO_ANSWERS = "no readable answer at the baseline"
NO_K = "one sample per problem at the baseline: pass@1 is all that there is"
NO_K_NOW = "one sample per problem in this round: pass@1 is all that there is"
NO_SCORED_NOW = "no scored sample in this round"
# One problem with a single sample should not turn pass@k of all into pass@1.
MOST_PROBLEMS = 0.9
"""Share of the problems that have at least k samples on both sides."""
FEW_K_NOW = (
    f"fewer than {MOST_PROBLEMS:.0%} of this round's problems have two scored samples in it and at"
    " the baseline"
)
NO_ALIVE = f"no strategy was right in {ALIVE_SHARE:.0%} of the baseline's samples"


def without(code_PK: Ints, rows: Table, reason: str) -> str:
    """The reason where no scored sample of the baseline has a code."""
    # Without a scored sample that is the reason, and the guard finds it by itself.
    return reason if rows.there_PK.any() and not (code_PK >= 0).any() else ""


def no_names(tables: Tables) -> str:
    """Why the baseline has no family with strategies, where it has scored samples."""
    scored = [pair.baseline for pair in (tables.main, tables.others) if pair is not None]
    has_scored = any(rows.there_PK.any() for rows in scored)
    is_named = tables.with_strategies.baseline.there_PK.any()
    return NO_NAMES if has_scored and not is_named else ""


def one_of_each(main: Pair) -> str:
    """Why a round has no pass@k beyond pass@1."""
    most = int(main.now.there_PK.sum(axis=1).max(initial=0))
    if most == 0:
        return NO_SCORED_NOW
    if most == 1:
        return NO_K_NOW
    return FEW_K_NOW
