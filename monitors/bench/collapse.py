"""V4: every regime under the decision rule.

How soon collapse is seen, what is named, and how often nothing is the matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.monitors.bench.bench import SIZES, run
from ouroloop.monitors.bench.cells import Cell, Cells, slug
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.decision.rule import DecisionRule

RULE = DecisionRule("main")


# A function of plain values, so that it can be sent to a worker.
def one(name: str, seed: int, size: str) -> Any:
    """A run under the defaults of the rule."""
    return run(name, seed, size, RULE)


def cells(
    out: Path,
    runs: int,
    sizes: Sequence[str] = tuple(SIZES),
    names: Sequence[str] = tuple(REGIMES),
) -> Cells:
    """A cell for each size and regime."""
    return {
        Cell(out / "v4.csv", f"{size}/{slug(name)}"): (
            one,
            [(name, seed, size) for seed in range(runs)],
        )
        for size in sizes
        for name in names
    }
