"""V2: what the monitors' numbers are worth at the size of a probe set.

That is bias, spread, and how often their 95 % intervals hold the truth.

Every draw is a new probe set from one world, whose problems differ in all that is measured. The
truth of a reading is its value where problems abound (`TRUTH`), as many samples of each: what is
asked is whether the interval is right about the world's problems, not only about those drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ouroloop.monitors.base import Reading
from ouroloop.monitors.bench.cells import Cell, Cells
from ouroloop.monitors.bench.drawn_rounds import problems, trained, view
from ouroloop.monitors.registry import measure_all

SIZES = ("40x8", "120x8")
TRUTH = 2_000, 16
"""Problems of a draw that stands for the truth, and how many such draws."""
OF_THE_SIZE = (
    "coverage/alive",
    "coverage/kept",
    "coverage/rare_mass",
    "richness/",
    "selection/largest_ratio",
    "supply/effective_problems",
    "drift/",
    "shortcut/share",
    "ways/",
)
"""Readings that have no value apart from the probe set's size.

Some of them are picked on the round's own samples, or have limits that are not simultaneous: their
docstrings say what was measured.
"""


@dataclass(frozen=True)
class Line:
    """A reading at a size.

    Attributes:
        size: problems x samples.
        reading: its id.
        truth: its value where problems abound.
        mean: over draws.
        sd: over draws.
        defined: draws that gave an interval.
        covered: those whose interval holds the truth.
        draws: all of them.
    """

    size: str
    reading: str
    truth: float
    mean: float
    sd: float
    defined: int
    covered: int
    draws: int


def draw(rng: np.random.Generator, num_problems: int, num_samples: int) -> dict[str, Reading]:
    """All readings of a round after training, on a probe set of new problems."""
    the, others = problems(rng, num_problems), problems(rng, max(12, num_problems // 5))
    then = view(rng, the, others, num_samples, 0)
    now = view(rng, trained(the), trained(others), num_samples, 1)
    # Not drawn here: a frozen judge, response clusters (whose statistic is Gini-Simpson's), servers
    # that do not answer, and traces, which are exact.
    absent = ("judge/", "clusters/", "traces/", "supply/dropped")
    return {r.name: r for r in measure_all(now, then) if not r.name.startswith(absent)}


def characteristics(size: str, runs: int, seed: int = 0) -> list[Line]:
    """A line per reading that has a value apart from the probe set's size.

    Raises:
        RuntimeError: a monitor failed.
    """
    num_problems, num_samples = (int(x) for x in size.split("x"))
    # Two draws rather than one twice as large, which would need twice the memory.
    large, times = TRUTH
    large_draws = [
        draw(np.random.default_rng([seed, 1, num_samples, i]), large, num_samples)
        for i in range(times)
    ]
    drawn = [
        draw(np.random.default_rng([seed, 0, num_problems, i]), num_problems, num_samples)
        for i in range(runs)
    ]
    if failed := [r for r in large_draws[0].values() if r.status == "error"]:
        raise RuntimeError(failed[0].reason)
    names = [
        name
        for name, r in large_draws[0].items()
        if math.isfinite(r.value) and not name.startswith(OF_THE_SIZE)
    ]
    lines = []
    for name in names:
        truth = float(np.mean([r[name].value for r in large_draws]))
        found = [d[name] for d in drawn if name in d]
        lines.append(_line(size, name, truth, found, runs))
    return lines


def _line(size: str, name: str, truth: float, found: list[Reading], runs: int) -> Line:
    values = np.array([r.value for r in found if math.isfinite(r.value)])
    sure = [r for r in found if math.isfinite(r.low)]
    # 1e-12: an interval that ends exactly at the truth holds it, whatever rounding does.
    held = sum(r.low - 1e-12 <= truth <= r.high + 1e-12 for r in sure)
    return Line(
        size=size,
        reading=name,
        truth=truth,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        defined=len(sure),
        covered=held,
        draws=runs,
    )


def cells(out: Path, runs: int) -> Cells:
    """A file per size."""
    return {Cell(out / "v2.csv", size): (characteristics, [(size, runs)]) for size in SIZES}
