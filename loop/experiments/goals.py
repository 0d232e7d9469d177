"""What is asked of a study's results, and whether it was found: yes, no, or not known yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ouroloop.loop.experiments.tables import cell
from ouroloop.monitors.estimators.stats import Estimate

MARK = {True: "met", False: "**not met**", None: "not known yet"}


@dataclass(frozen=True)
class Goal:
    """One thing that is asked of the result.

    Attributes:
        asks: in words, with the number.
        found: what was found.
        met: None where too little is finished to know.
        unit: of the number; "%" for a share.
    """

    asks: str
    found: Estimate
    met: bool | None
    unit: str = ""

    @property
    def has_result(self) -> bool:
        """Whether there is a number at all; there is none where an arm was not run."""
        return self.found.value == self.found.value

    @classmethod
    def at_least(cls, asks: str, found: Estimate, least: float, unit: str = "") -> Goal:
        """Met when the estimate reaches `least`."""
        return cls(asks, found, None if found.value != found.value else found.value >= least, unit)

    @classmethod
    def above(cls, asks: str, found: Estimate, least: float = 0.0, unit: str = "") -> Goal:
        """Met when the whole interval lies above `least`.

        Not known without one, and where it has no width: seeds that all agree show no spread.
        """
        # x != x is true of NaN alone: an estimate without an interval.
        met = None if found.low != found.low else found.low > least
        return cls(asks, found, None if met and found.high - found.low < 1e-9 else met, unit)

    @classmethod
    def not_below(cls, asks: str, found: Estimate, least: float, unit: str = "") -> Goal:
        """Met when the one-sided 95 % limit shows that `least` is reached.

        Not met when the estimate itself is below; between the two not known.
        """
        # "No worse than" is a claim about one side, so the one-sided limit decides.
        shown = found.low == found.low and one_sided_low(found) >= least
        if shown:
            return cls(asks, found, True, unit)
        if found.value < least:  # never so of NaN
            return cls(asks, found, False, unit)
        return cls(asks, found, None, unit)


def one_sided_low(found: Estimate) -> float:
    """The lower 95 % limit from a two-sided 95 % t interval, as if that had P - 1 df.

    P: the clusters. `stats.mean` may have taken fewer (`effective_df`), which an estimate does not
    carry. The limit is then lower than it had to be: `Goal.not_below` is not met too easily.
    """
    from scipy import stats

    # Both limits are value -+ t * standard error: the ratio of the two t's converts one into the
    # other without knowing the standard error.
    freedom = max(1, found.num_clusters - 1)
    return found.value - (found.value - found.low) * float(
        stats.t.ppf(0.95, freedom) / stats.t.ppf(0.975, freedom)
    )


def goal_table(goals: Iterable[Goal]) -> list[str]:
    """Markdown lines: what was asked, what was found, whether that is enough."""
    return [
        "| asked | found | |",
        "|---|---|---|",
        *(f"| {g.asks} | {cell(g.found, g.unit)} | {MARK[g.met]} |" for g in goals),
    ]
