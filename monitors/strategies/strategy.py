"""What counts as the same strategy, when the task cannot say: canonicalisers of a trace's text.

Text is untrusted: read in one pass, at most `MAX_CHARS` of it, nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ouroloop.monitors.arith.calculations import calculation_key, calculations
from ouroloop.monitors.arith.expressions import operators
from ouroloop.monitors.strategies.answers import Answer
from ouroloop.monitors.strategies.plans import Dataflow, Plan


class Canonicaliser(Protocol):
    """Names the strategy of a trace; None when the text shows none.

    Equal names: same strategy. Deterministic; never raises.
    """

    @property
    def name(self) -> str:
        """Key in `CANONICALISERS`."""
        ...

    def __call__(self, question: str, text: str) -> str | None:
        """The strategy of `text`, an answer to `question`."""
        ...


@dataclass(frozen=True)
class Calculations:
    """The multiset of calculations, "12+30=42;42+5=47", sorted.

    Traces that only order or word them differently are the same.

    Source: RFT (Yuan et al. 2308.01825), see `calculation_key`.
    """

    name: str = "calculations"

    def __call__(self, question: str, text: str) -> str | None:
        """Sorted calculations joined by ";"."""
        # An empty key means that nothing was read, and not that nothing was calculated.
        return calculation_key(text) or None


@dataclass(frozen=True)
class CalculationList:
    """The calculations in the order of the text: two orders are two paths.

    Source: RFT (Yuan et al. 2308.01825).
    """

    name: str = "calculation_list"

    def __call__(self, question: str, text: str) -> str | None:
        """Calculations joined by ";"."""
        return ";".join(map(str, calculations(text))) or None


@dataclass(frozen=True)
class Operators:
    """The operators of each calculation in the order of the text.

    "+|*-" is a sum, then a product less something.
    """

    name: str = "operators"

    def __call__(self, question: str, text: str) -> str | None:
        """Operator groups joined by "|"."""
        return "|".join(operators(step.left) for step in calculations(text)) or None


# These need no fitting; `templates` does.
CANONICALISERS: Mapping[str, Canonicaliser] = {
    c.name: c
    for c in (Calculations(), CalculationList(), Operators(), Dataflow(), Plan(), Answer())
}
