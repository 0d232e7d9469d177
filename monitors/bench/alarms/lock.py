"""Which runs the benchmark is made of, and what is allowed: fixed before any detector was tried.

A change of anything here is a new benchmark, and `VERSION` says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

VERSION = 2

HEALTHY = ("stationary", "improving", "relaxing")
COLLAPSING = (
    "drift",
    "drift, fast",
    "sharpen",
    "sharpen, fast",
    "answer filter",
    "majority vote",
    "majority vote, slow",
    "shortcut",
    "shortcut, fast",
    "tail narrowing",
    "weak verifier",
    "death of a strategy",
)
"""Names in `ouroloop.monitors.bench.regimes`."""

# Thresholds are chosen on healthy runs in some worlds and judged in others: a threshold that fits
# the worlds it was chosen in, and no others, is of no use to anybody.
CALIBRATION_WORLDS = range(0, 10)
EVALUATION_WORLDS = range(10, 20)
SEEDS = 4
"""Runs of each regime in each world."""

ROUNDS = 20
BUDGETS = (0.05, 0.20)
"""Allowed share of healthy runs with an alarm within `ROUNDS` rounds."""


class Split(StrEnum):
    """What a run is for."""

    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class RunKey:
    """A simulated run.

    Attributes:
        regime: its name.
        world: number of its world, which fixes problems, strategies and difficulties.
        seed: of its samples, training and onset; of no other run.
        split: calibration for healthy runs in the calibration worlds only.
    """

    regime: str
    world: int
    seed: int
    split: Split

    @property
    def name(self) -> str:
        """Its name in the files."""
        regime = self.regime.replace(", ", "-").replace(" ", "-")
        return f"{regime}-w{self.world:02d}-s{self.seed}"

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is the matter."""
        return self.regime in HEALTHY


def keys(seeds: int = SEEDS) -> tuple[RunKey, ...]:
    """The locked runs; with fewer seeds a part of them, with more seeds others beside them."""
    found = []
    for number, regime in enumerate((*HEALTHY, *COLLAPSING)):
        # Collapsing runs choose nothing, so there are none in the calibration worlds.
        worlds = [(world, Split.EVALUATION) for world in EVALUATION_WORLDS]
        if regime in HEALTHY:
            worlds += [(world, Split.CALIBRATION) for world in CALIBRATION_WORLDS]
        for world, split in worlds:
            for seed in range(seeds):
                # Far apart, so that no two runs of the benchmark share a seed.
                own = 1_000_000 * (1 + number) + 10_000 * world + seed
                found.append(RunKey(regime, world, own, split))
    return tuple(found)


def digest() -> str:
    """Of everything that is locked, as text."""
    # With the default seeds: who runs fewer or more of them has not changed what is locked.
    parts = [str(VERSION), str(ROUNDS), str(BUDGETS), *map(repr, keys())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
