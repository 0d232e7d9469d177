"""The tables of MONITORS.md and of docs/validation/index.md, from the result files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from ouroloop.monitors.bench import estimators
from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.boundary import ALL_SIZES, GRID, TIERS, name_of, prefix
from ouroloop.monitors.bench.cells import Cell, exists, read, slug
from ouroloop.monitors.bench.markdown import percent, table
from ouroloop.monitors.bench.regimes import COLLAPSING, REGIMES, mode_name
from ouroloop.monitors.estimators.stats import clopper_pearson

PAGES = (Path("MONITORS.md"), Path("docs/validation/index.md"))


def v1(out: Path) -> str:
    """False alarms of runs that lie exactly on every tolerance of a tier."""
    lines = []
    for tier, (_, alpha) in TIERS.items():
        names = {
            name_of(*line, tier): (*line[:2], "the same" if line[2] else "independent")
            for line in GRID
        }
        # "panel" is what the result file calls the rule's own quantities.
        for size in SIZES:
            own = (size, "the rule's own", "as they depend on each other")
            names[f"{prefix(tier)}panel-{size}"] = own
        for name, (size, kind, together) in names.items():
            if exists(cell := Cell(out / "v1.csv", name)):
                rows = read(cell)
                hits = sum(row["alarm"] != "0" for row in rows)
                top = max(float(row["log_e"]) for row in rows)
                # The upper end of a two-sided 90 % interval is a one-sided bound of 95 %.
                upper = 100 * clopper_pearson(hits, len(rows), 0.90)[1]
                found = f"{100 * hits / len(rows):.1f} %"
                line = [tier.upper(), size, kind, together, len(rows), hits, found]
                line += [f"{upper:.2f} %", f"{100 * alpha:.0f} %", f"{top:.1f}"]
                lines.append(line)
    return table(
        (
            "tier",
            "N x k",
            "problems",
            "monitors",
            "runs",
            "alarms",
            "share",
            "95 % upper bound",
            "promised",
            "largest log e",
        ),
        lines,
    )


def on_boundary(out: Path) -> str:
    """V1 in short: a line for each tier and size of the probe set."""
    lines = []
    for tier, (_, alpha) in TIERS.items():
        for size in ALL_SIZES:
            names = [name_of(*line, tier) for line in GRID if line[0] == size]
            names.append(f"{prefix(tier)}panel-{size}")
            found = [read(cell) for name in names if exists(cell := Cell(out / "v1.csv", name))]
            hits = [sum(row["alarm"] != "0" for row in rows) for rows in found]
            if not found:
                continue
            num = sum(map(len, found))
            worst = max(100 * n / len(rows) for n, rows in zip(hits, found, strict=True))
            shares = f"{100 * sum(hits) / num:.1f} %", f"{worst:.1f} %", f"{100 * alpha:.0f} %"
            lines.append((tier.upper(), size, len(found), num, sum(hits), *shares))
    head = ("tier", "N x k", "kinds", "runs", "alarms", "share", "in the worst kind", "promised")
    return table(head, lines)


def v2(out: Path) -> str:
    """What every reading is worth.

    Its bias in its own standard deviations, that deviation, how often the interval holds the truth.
    """
    at = {}
    for size in estimators.SIZES:
        at[size] = {r["reading"]: r for r in read(Cell(out / "v2.csv", size))}
    lines = []
    for name, large in at[estimators.SIZES[-1]].items():
        line = [f"`{name}`", f"{float(large['truth']):.3f}"]
        for row in (rows[name] for rows in at.values()):
            sd, off = float(row["sd"]), "-"
            if sd > 0:
                off = f"{(float(row['mean']) - float(row['truth'])) / sd:+.2f}"
            line += [off, f"{sd:.3f}", percent(int(row["covered"]), int(row["defined"]))]
        lines.append(line)
    return table(
        (
            "reading",
            "truth",
            *(f"{size}: {what}" for size in at for what in ("bias / sd", "sd", "interval holds")),
        ),
        lines,
    )


def v3(out: Path) -> str:
    """The laws of the dynamics."""
    lines = []
    for row in read(Cell(out / "v3.csv")):
        expected, found, within = (float(row[name]) for name in ("expected", "found", "within"))
        numbers = (f"{expected:.4f}", f"{found:.4f}", f"{within:.3f}")
        lines.append((row["law"], row["setting"], *numbers))
    return table(("law", "at", "expected", "found", "allowed"), lines)


# A rule that fires before the onset has seen nothing: there is nothing to see yet.
def seen(row: dict[str, str], rule: str = "watch", late: int = 0) -> bool:
    """Whether a rule fired after the regime set in, at most `late` rounds after the event."""
    return int(row["onset"]) <= int(row[rule]) <= int(row["event"]) + late


def early(row: dict[str, str], rule: str) -> bool:
    """Whether a tier fired before any quantity was truly beyond that tier's tolerance."""
    alarm, violated = int(row[rule]), int(row[f"violated_{rule}"])
    return alarm > 0 and (violated == 0 or alarm < violated)


def most(values: Iterable[str]) -> str:
    """The most frequent value and its share."""
    known = [value for value in values if value]
    if not known:
        return "-"
    # Of equally frequent ones the first in the file.
    value, count = Counter(known).most_common(1)[0]
    return f"{value} {percent(count, len(known))}"


def v4(out: Path, size: str) -> str:
    """How soon each collapse is seen, at one size of the probe set."""
    lines = []
    for name, regime in COLLAPSING.items():
        if not exists(cell := Cell(out / "v4.csv", f"{size}/{slug(name)}")):
            continue
        rows = read(cell)
        # Only runs in which the collapse did happen can be seen in time.
        there = [r for r in rows if r["event"] != "0"]
        warned = [r for r in rows if int(r["watch"]) >= int(r["onset"])]
        # A warning before the onset is a false alarm, and no lead.
        lead = [int(r["event"]) - int(r["watch"]) for r in warned if r["event"] != "0"]
        hits, num = sum(map(seen, there)), len(there)
        until = by_then = "-"
        if num:
            until = f"{median(int(r['event']) - int(r['onset']) for r in there):g}"
            by_then = f"{percent(hits, num)} ({100 * clopper_pearson(hits, num)[0]:.0f})"
        lines.append(
            (
                name,
                mode_name(regime.mode or ""),
                f"{num} of {len(rows)}",
                until,
                by_then,
                percent(sum(seen(r, late=1) for r in there), num),
                f"{median(lead):+g}" if lead else "-",
                percent(sum(seen(r, "halt") for r in there), num),
                most(r["watch_driver"] for r in warned),
                most(mode_name(r["watch_mode"]) for r in warned),
                most(mode_name(r["halt_mode"]) for r in warned),
            )
        )
    head = (
        "regime",
        "mode",
        "2 points down",
        "rounds until then",
        "WATCH by then (at least)",
        "one round later",
        "median lead",
        "HALT by then",
        "driver",
        "named at WATCH",
        "at HALT",
    )
    return table(head, lines)


def summary(out: Path) -> str:
    """What each probe set costs, and which collapses it shows by the event: a column each."""
    run = [size for size in SIZES if exists(Cell(out / "v4.csv", f"{size}/drift"))]
    sizes = sorted(run, key=lambda size: SIZES[size][0] * SIZES[size][2])
    lines = [
        ["samples in the baseline", *(f"{SIZES[s][0] * SIZES[s][2]:,}" for s in sizes)],
        ["samples a round, unchanged model", *(_a_round(out, size) for size in sizes)],
    ]
    for name in COLLAPSING:
        found = [_by_event(out, size, name) for size in sizes]
        if any(found):
            lines.append([name, *(each or "not run" for each in found)])
    lines.append(["false WATCH, unchanged model", *(_false(out, size) for size in sizes)])
    return table(("", *sizes), lines)


def _a_round(out: Path, size: str) -> str:
    """Samples of the probe set in a round of a model that does not change."""
    rows = read(Cell(out / "v4.csv", f"{size}/stationary"))
    drawn = sum(int(r["draws"]) for r in rows) / sum(int(r["weighed"]) for r in rows)
    return f"{drawn * SIZES[size][0] * SIZES[size][1]:,.0f}"


def _by_event(out: Path, size: str, name: str) -> str:
    """Share of the runs seen by the event, with its 95 % interval; empty: not run."""
    if not exists(cell := Cell(out / "v4.csv", f"{size}/{slug(name)}")):
        return ""
    there = [r for r in read(cell) if r["event"] != "0"]
    hits = sum(map(seen, there))
    low, high = clopper_pearson(hits, len(there))
    return f"{percent(hits, len(there))} ({100 * low:.0f} to {100 * high:.0f}) of {len(there)}"


def _false(out: Path, size: str) -> str:
    rows = read(Cell(out / "v4.csv", f"{size}/stationary"))
    return f"{sum(early(r, 'watch') for r in rows)} of {len(rows)}"


def oracle(out: Path) -> str:
    """What is seen by who knows everything but the samples, at the sizes worked out."""
    lines = []
    for size in SIZES:
        for name in COLLAPSING:
            if not exists(cell := Cell(out / "oracle.csv", f"{size}/{slug(name)}")):
                continue
            rows = [row for row in read(cell) if int(row["rounds"]) >= 0]
            distance = np.array([float(row["distance"]) for row in rows])
            power = np.mean([float(row["power"]) for row in rows])
            looking = np.mean([float(row["sequential"]) for row in rows])
            line = (size, name, len(rows), f"{np.median(distance):.2f}")
            lines.append((*line, f"{100 * power:.0f} %", f"{100 * looking:.0f} %"))
    head = ("N x k", "regime", "worlds", "median distance", "onset known", "onset unknown")
    return table(head, lines)


def v4_false(out: Path, size: str) -> str:
    """Alarms while nothing was beyond its tolerance, at one size of the probe set."""
    lines = []
    for name in REGIMES:
        if not exists(cell := Cell(out / "v4.csv", f"{size}/{slug(name)}")):
            continue
        rows = read(cell)
        halt, num = sum(early(r, "halt") for r in rows), len(rows)
        upper = 100 * clopper_pearson(halt, num, 0.90)[1]
        lines.append(
            (
                name,
                num,
                percent(sum(r["violated_watch"] != "0" for r in rows), num),
                percent(sum(r["violated_halt"] != "0" for r in rows), num),
                percent(sum(early(r, "watch") for r in rows), num),
                f"{percent(halt, num)} (at most {upper:.1f} %)",
                percent(sum(r["watch"] != "0" for r in rows), num),
                percent(sum(r["halt"] != "0" for r in rows), num),
            )
        )
    head = (
        "regime",
        "runs",
        "truly beyond a quarter",
        "truly beyond",
        "WATCH before that",
        "HALT before that",
        "WATCH at all",
        "HALT at all",
    )
    return table(head, lines)


def pilot(out: Path) -> str:
    """The pilot's loops by the rule, and by the normal e-process beside it."""
    rows = read(Cell(out / "pilot.csv"))
    lines = []
    for loop, baseline in dict.fromkeys((r["loop"], r["baseline"]) for r in rows):
        line = [loop, f"round {baseline}"]
        of_loop = [r for r in rows if (r["loop"], r["baseline"]) == (loop, baseline)]
        for rule in ("exact", "normal"):
            mine = [r for r in of_loop if r["rule"] == rule]
            line += [
                " / ".join(r["alarm"] if r["alarm"] != "0" else "none" for r in mine),
                most(r["driver"] for r in mine),
            ]
        lines.append(tuple(line))
    return table(
        (
            "loop",
            "baseline",
            "HALT at tolerance x1 / x0.5 / x0.25",
            "driver",
            "by a normal e-process",
            "driver",
        ),
        lines,
    )


def tables(out: Path) -> dict[str, Callable[[], str]]:
    """Name of a place in the page -> what stands there."""
    found: dict[str, Callable[[], str]] = {
        make.__name__: partial(make, out)
        for make in (summary, on_boundary, v1, v2, v3, oracle, pilot)
    }
    for size in SIZES:
        found |= {
            f"v4 {size}": partial(v4, out, size),
            f"v4 false {size}": partial(v4_false, out, size),
        }
    return found


def write(out: Path, page: Path) -> list[str]:
    """Put every table for which there are results between its markers.

    Returns:
        The names of those tables.
    """
    text, done = page.read_text(encoding="utf-8"), []
    for name, make in tables(out).items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in text:
            continue
        try:
            made = make()
        except FileNotFoundError:  # not worked out: what stands there stays
            continue
        # Only what stands between the two markers is ours; the page is written by hand.
        before, rest = text.split(start)
        text = f"{before}{start}\n{made}\n{end}{rest.split(end)[1]}"
        done.append(name)
    page.write_text(text, encoding="utf-8")
    return done
