"""The validation, as commands: each leaves a file, and `table` writes them up.

`table` fills the tables of MONITORS.md and docs/validation/index.md, and writes docs/quantities/.

A cell (part of a file) that is there is not worked out again. Real runs (V5):
`ouroloop study runs/experiments/guarded_collapse`; other people's rules (V7): `ouroloop bench
alarms`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ouroloop.monitors.bench import (
    boundary,
    cells,
    collapse,
    estimators,
    laws,
    oracle,
    pilot,
    quantity_pages,
    report,
    unscored,
)
from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.regimes import REGIMES

# So many runs bound a share of 5 % to about one point (V1), others to a few.
RUNS = {"v1": 2000, "v2": 400, "v3": 100, "v4": 200, "oracle": 16, "unscored": 200}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog="python -m ouroloop.monitors.bench.validate",
        description=__doc__,
    )
    parser.add_argument("what", choices=[*RUNS, "pilot", "table"])
    parser.add_argument(
        "--runs",
        type=int,
        default=0,
        help=f"runs of a cell, as committed: {RUNS}",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=cells.OUT)
    parser.add_argument(
        "--sizes",
        nargs="*",
        choices=list(dict.fromkeys([*SIZES, *boundary.ALL_SIZES])),
        help="problems x samples (v1: all unless given; v4, oracle: 500x16)",
    )
    parser.add_argument(
        "--regimes",
        nargs="*",
        default=list(REGIMES),
        choices=list(REGIMES),
        help="which (v4, oracle)",
    )
    given = parser.parse_args(arguments)
    if given.what == "table":
        for page in report.PAGES:
            print(f"{page}:", ", ".join(report.write(given.out, page)))
        print(f"{quantity_pages.FOLDER}:", len(quantity_pages.write(given.out)), "pages")
        return 0
    runs = given.runs or RUNS.get(given.what, 0)
    sizes = given.sizes or ["500x16"]
    todo = {
        "v1": lambda: boundary.cells(given.out, runs, given.sizes or boundary.ALL_SIZES),
        "v2": lambda: estimators.cells(given.out, runs),
        "v3": lambda: laws.cells(given.out, runs),
        "v4": lambda: collapse.cells(given.out, runs, sizes, given.regimes),
        "oracle": lambda: oracle.cells(given.out, runs, sizes, given.regimes),
        "pilot": lambda: pilot.cells(given.out),
        "unscored": lambda: unscored.cells(given.out, runs),
    }
    cells.fill(todo[given.what](), given.workers)
    if given.what == "unscored":
        print("written:", unscored.write(given.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
