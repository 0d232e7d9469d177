"""`ouroloop bench alarms`: from the command line to the table."""

from __future__ import annotations

import argparse
import shlex

from ouroloop.loop.alarms.benchmark import NUMBERS, PAGE, Plan, bench
from ouroloop.loop.cache import cache_root
from ouroloop.loop.errors import UserError
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.progress import LiveProgress
from ouroloop.monitors.bench.alarms.detectors import DETECTORS
from ouroloop.monitors.bench.alarms.lock import VERSION


def alarms(options: argparse.Namespace) -> int:
    """Make or read the runs, score them, write and print the table."""
    plan = plan_of(options)
    with LiveProgress() as progress:
        bench(plan, progress)
    print(printable((plan.out / PAGE).read_text(encoding="utf-8")))
    print(f"written: {plan.out / PAGE}, {plan.out / NUMBERS}; traces: {plan.data}")
    return 0


def plan_of(options: argparse.Namespace) -> Plan:
    """What the options ask for.

    Raises:
        UserError: nothing is asked for, or something that does not exist.
    """
    if options.no_simulation and options.runs is None:
        raise UserError(
            "bench alarms --no-simulation: no runs; expected --runs with a folder of real runs."
        )
    if options.healthy and options.runs is None:
        raise UserError("bench alarms --healthy: expected --runs with a folder of real runs.")
    only = options.only or list(DETECTORS)
    if unknown := [name for name in only if name not in DETECTORS]:
        raise UserError(
            f"bench alarms --only {unknown[0]}: no such detector; expected some of"
            f" {', '.join(DETECTORS)}. Those of your own: --add."
        )
    # A folder for each version and size: runs of different ones must not be mixed.
    data = options.data or cache_root() / "alarms" / f"v{VERSION}-{options.size}"
    out = options.out or data
    for option, folder in (("--data", data), ("--out", out)):
        if folder.is_file():
            raise UserError(
                f"bench alarms {option} {folder}: got a file; expected a folder. Name another one."
            )
    return Plan(
        data=data,
        out=out,
        size=options.size,
        seeds=0 if options.no_simulation else options.seeds,
        detectors=(*only, *options.add),
        runs=options.runs,
        healthy=tuple(options.healthy),
        jobs=options.jobs,
        command=_command(options),
    )


def _command(options: argparse.Namespace) -> str:
    """What makes the same table again; folders are the user's own, and are left out."""
    parts = ["ouroloop", "bench", "alarms", "--size", options.size, "--seeds", str(options.seeds)]
    if options.no_simulation:
        parts.append("--no-simulation")
    if options.only:
        parts += ["--only", *options.only]
    if options.add:
        parts += ["--add", *options.add]
    if options.runs is not None:
        parts += ["--runs", "DIR"]
    if options.healthy:
        parts += ["--healthy", *options.healthy]
    return shlex.join(parts)
