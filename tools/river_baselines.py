"""V7: river's ADWIN and Page-Hinkley, at their defaults, on the runs of the validation.

Needs river, which is no part of the environment.

    python -m pip install --target FOLDER river && PYTHONPATH=FOLDER:. python
    tools/river_baselines.py --runs 100

Each detector reads the wrong answers, either a round's share of them (20 numbers a run) or every
sample's (8,000 a round), after the baseline round's. Writes docs/validation/river.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.monitors.bench import cells
from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream

RULES = ("adwin_rounds", "page_hinkley_rounds", "adwin_samples", "page_hinkley_samples")


def detectors() -> dict[str, Any]:
    """A new detector for each rule."""
    try:
        from river import drift
    except ImportError:
        sys.exit("river is not installed: this table is left as it is (see the head of this file)")
    kinds = {"adwin": drift.ADWIN, "page": drift.PageHinkley}
    return {rule: kinds[rule.partition("_")[0]]() for rule in RULES}


def first_alarms(name: str, seed: int, size: str = "500x16") -> dict[str, object]:
    """Regime, seed, and the round in which each rule first fires (0: never)."""
    num_problems, num_samples, num_baseline = SIZES[size]
    found: dict[str, object] = {"regime": name, "seed": seed} | dict.fromkeys(RULES, 0)
    kept = detectors()
    for a_round in Stream(REGIMES[name], seed, num_problems, num_samples, num_baseline).rounds():
        wrong = ~a_round.tables.main[1].right_PK[:, :num_samples]
        # The samples of a round have no order of their own: a detector must not see problem after
        # problem, whose difficulties differ.
        order = np.random.default_rng([seed, a_round.number, 4]).permutation(wrong.size)
        for rule, detector in kept.items():
            values = wrong.ravel()[order].astype(float).tolist()
            if rule.endswith("rounds"):
                values = [float(wrong.mean())]
            fired = False
            for value in values:
                detector.update(value)
                fired |= detector.drift_detected
            # Round 0 is the baseline: an alarm in it would be about nothing.
            if fired and a_round.number and not found[rule]:
                found[rule] = a_round.number
    return found


def main() -> None:
    """Work out the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=cells.OUT)
    given = parser.parse_args()
    # Ends here when river is absent, before the work is shared out among processes.
    detectors()
    todo = [(name, seed) for name in REGIMES for seed in range(given.runs)]
    cells.fill({cells.Cell(given.out / "river.csv"): (first_alarms, todo)})


if __name__ == "__main__":
    main()
