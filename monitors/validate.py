"""The validation, as commands: each leaves small files, and `table` writes them up in MONITORS.md.

`python -m monitors.validate v1|v3|v4|v7|pilot|table [--runs N] [--sizes 500x16 ...] [--workers 1] [--out DIR]`. A cell (file) that is there is not
worked out again. Unbiased estimators (V2) are held by tests/monitors/test_ustatistics.py and test_rarefaction.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from monitors.validation import boundary, cells, collapse, laws

RUNS = {"v1": 2000, "v3": 100, "v4": 200}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m monitors.validate", description=__doc__)
    parser.add_argument("what", choices=[*RUNS])
    parser.add_argument("--runs", type=int, default=0, help=f"runs of a cell: {RUNS}")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=cells.OUT)
    parser.add_argument("--sizes", nargs="*", default=["500x16"], help="problems x samples (v4)")
    given = parser.parse_args(arguments)
    runs = given.runs or RUNS.get(given.what, 0)
    if given.what == "v1":
        cells.fill(boundary.cells(given.out, runs), given.workers)
    if given.what == "v3":
        cells.fill(laws.cells(given.out, runs), given.workers)
    if given.what == "v4":
        cells.fill(collapse.cells(given.out, runs, given.sizes), given.workers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
