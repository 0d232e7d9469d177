"""Everything that a run must survive, tried on purpose; one table of what became of it.

    python tests/durability/run.py [--quick] [--only NAME ...] [--seed N] [--write]

It goes on where it was stopped, as long as the code stays the same. `--write` puts the table into
RELIABILITY.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import child_faults
import crash_points
import kills
import long_run
import real_kills
import storage_faults
import teacher_faults
from trials import ROOT, Cache, Fault, code_digest, table

FAULTS: tuple[Fault, ...] = (
    *kills.FAULTS,
    *crash_points.FAULTS,
    *child_faults.FAULTS,
    *teacher_faults.FAULTS,
    *storage_faults.FAULTS,
    *long_run.FAULTS,
    *real_kills.FAULTS,
)
PAGE = ROOT / "RELIABILITY.md"
MARKS = re.compile(r"(<!-- generated: begin -->\n).*(<!-- generated: end -->)", re.DOTALL)


def try_all(faults: Sequence[Fault], cache: Cache, seed: int, quick: bool) -> None:
    """Make the trials that are missing."""
    for fault in faults:
        enough = fault.quick if quick else fault.enough
        known = cache.trials(fault.name)
        tried, number = sum(trial.tried for trial in known), len(known)
        while tried < enough and number < 2 * enough + 3:
            folder = Path(tempfile.mkdtemp(prefix="durability-"))
            try:
                trial = fault.trial(folder, f"{seed}/{fault.name}/{number}", number)
                cache.add(trial)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            tried, number = tried + trial.tried, number + 1
            print(f"{fault.name}: {tried} of {enough} {trial.note}"[:200], flush=True)


def page_text(cache: Cache, seed: int) -> str:
    """What stands between the marks of RELIABILITY.md."""
    command = "make test-durability" + (f" SEED={seed}" if seed else "")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    about = (
        f"`{command}`, seed {seed}, {today}, code {code_digest()}, Python"
        f" {platform.python_version()}, {os.cpu_count()} cores."
    )
    lines = [f"* **{fault.name}**: {fault.what}." for fault in FAULTS]
    return "\n".join([about, "", table(FAULTS, cache), *lines, ""])


def write_page(cache: Cache, seed: int) -> None:
    """The table in RELIABILITY.md."""
    text = page_text(cache, seed)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKS.sub(lambda m: f"{m[1]}{text}{m[2]}", page), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try, and print the table; 1 where something did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="each fault once, none on real models")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults by the table's names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into RELIABILITY.md")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "durability")
    options = parser.parse_args(arguments)
    names = [fault.name for fault in FAULTS]
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no fault is called {unknown}; there are {shlex.join(names)}")
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    cache = Cache(options.cache, options.seed)
    try_all(chosen, cache, options.seed, options.quick)
    if options.write:
        write_page(cache, options.seed)
    print(table(chosen, cache))
    trials = [trial for fault in chosen for trial in cache.trials(fault.name)]
    return int(any(trial.survived < trial.tried for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
