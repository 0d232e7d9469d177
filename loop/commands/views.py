"""Look at runs: live, as a page, as tables, one sample at a time; and hand one on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ouroloop.loop.commands.shared import (
    Add,
    positive,
    print_result,
    round_number,
    run_path,
)
from ouroloop.loop.extras import require
from ouroloop.loop.folder.storage import writing
from ouroloop.loop.views.printable import printable

EXPLAIN = """\
what it prints:
  why              the decision's own sentences
  evidence         of both tiers against their limits, and the quantity that drives it
  quantities       then, now, change and interval, tolerance, room left (0 = at the tolerance)
  done next        what the next round's plan changed
  did it help      what a later round's audit found about the quantity that spoke

example:
  ouroloop explain demo --round 2
"""

SHOW = """\
Without a choice: counts by reason and by strategy. Choices combine. Model text stands behind a bar.

examples:
  ouroloop show demo --round 7                         what there is to choose from
  ouroloop show demo --round 7 --problem 5f0f9b        draft, critique, revision, verdict, probe
  ouroloop show demo --round 7 --strategy column       the samples of one strategy
  ouroloop show demo --round 7 --rejected steps        what a filter rejected, and the texts
"""


def add_commands(add: Add) -> None:
    """The commands of this file, with their options."""
    watch = add("watch", "follow a run live from another terminal", _watch)
    watch.add_argument("run", help="name or folder of the run")
    _of_asking(add)
    report = add("report", "write one HTML page of a run, or of several side by side", _report)
    report.add_argument(
        "run", nargs="+", help="names or folders of runs; the page is written to the first"
    )
    report.add_argument("--out", type=Path, help="default: report.html in the first run's folder")
    compare = add(
        "compare",
        "put the rounds of several runs side by side; of several seeds, their means",
        _compare,
    )
    compare.add_argument("run", nargs="+", help="names or folders of runs")
    compare.add_argument("--json", action="store_true", help="for scripts")
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write every measure of every round to a .csv or .parquet file; .svg: a few as charts",
    )
    publish = add("publish", "make a model card of a run, and send a checkpoint to a hub", _publish)
    publish.add_argument("run", help="name or folder of the run")
    publish.add_argument("--round", type=int, metavar="N", help="default: the best round")
    publish.add_argument("--to", metavar="ORG/NAME", help="where; without it the card is printed")
    publish.add_argument("--private", action="store_true", help="for you alone")
    publish.add_argument("--dry-run", action="store_true", help="list what would be sent")
    verify = add(
        "verify", "compare every file of a run with what was written (exit 2: damage)", _verify
    )
    verify.add_argument("run", help="name or folder of the run")


def _of_asking(add: Add) -> None:
    explain = add(
        "explain", "say why a round was decided as it was, in words and numbers", _explain
    )
    explain.epilog = EXPLAIN
    show = add("show", "show a problem's way through a round, or the samples of one kind", _show)
    show.epilog = SHOW
    for command in (explain, show):
        command.add_argument("run", help="name or folder of the run")
        command.add_argument(
            "--round",
            type=round_number,
            metavar="N",
            help="its number (default: the last finished one)",
        )
    show.add_argument("--problem", metavar="ID", help="its id, or a part that no other id has")
    show.add_argument(
        "--strategy",
        metavar="NAME",
        help="a strategy's name; of samples that nobody scored, their response cluster's",
    )
    show.add_argument("--rejected", metavar="REASON", help="what a rejection filter is called")
    show.add_argument(
        "--limit", type=positive, default=5, metavar="N", help="samples shown whole (default: 5)"
    )


def _watch(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.watch import watch

    watch(run_path(options, options.run))
    return 0


def _report(options: argparse.Namespace) -> int:
    require("report", "ouroloop report")
    from ouroloop.loop.views.report import write_report

    paths = [run_path(options, name) for name in options.run]
    out = options.out or paths[0] / "report.html"
    with writing(out, "report --out"):
        print(write_report(paths, out))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import explain

    # Through `printable`, like every text here that quotes a model or a file: it may hold
    # characters that a terminal obeys.
    print(printable(explain.explain(run_path(options, options.run), options.round)))
    return 0


def _show(options: argparse.Namespace) -> int:
    require("report", "ouroloop show")
    from ouroloop.loop.views import show

    wanted = show.Wanted(options.problem, options.strategy, options.rejected)
    print(
        printable(show.show(run_path(options, options.run), options.round, wanted, options.limit))
    )
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.compare import (
        compare,
        compare_table,
        draw_comparison,
        write_comparison,
    )

    paths = [run_path(options, name) for name in options.run]
    if options.out and options.out.suffix == ".svg":
        require("report", "ouroloop compare --out NAME.svg")
        with writing(options.out, "compare --out"):
            print(draw_comparison(paths, options.out))
        return 0
    result = compare(paths)
    if options.out:
        with writing(options.out, "compare --out"):
            print(write_comparison(result, options.out))
        return 0
    print_result(options.json, lambda: result, lambda: compare_table(result))
    return 0


def _publish(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.card import check_target, release
    from ouroloop.loop.views.reader import read_run

    if options.to is not None:
        check_target(options.to)
    found = release(read_run(run_path(options, options.run)), options.round)
    if options.dry_run:
        print("\n".join(f"{size:>14,} {name}" for name, size in found.files))
    # Nothing is sent unless a place was named: --to has no default.
    if options.dry_run or options.to is None:
        print(printable(found.card))
    else:
        print(found.push(options.to, options.private))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import verify
    from ouroloop.loop.views.progress import LiveProgress

    with LiveProgress() as progress:
        checks = verify.checks_of(run_path(options, options.run), progress)
    print(printable(verify.table(checks)))
    return 0 if verify.is_whole(checks) else 2
