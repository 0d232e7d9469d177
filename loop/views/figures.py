"""The figures of the report and of MLflow: small matplotlib charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

from ouroloop.loop.views import tips
from ouroloop.loop.views.measures import Value, grouped_shares, reliability
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.statistics import SHOWN, Unit, with_unit
from ouroloop.monitors.decision.records import plain
from ouroloop.monitors.names import Action

# Stand-ins that `svg` turns into the page's text and line colours; in a PNG they are read as they
# are.
INK, FAINT = "#2b3443", "#c9cdd5"

# Okabe & Ito's colours, which colour-blind readers can tell apart (their yellow is too pale for a
# line). Arms are few and drawn as lines, strategies are many and drawn as areas.
ARMS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BANDS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8d99a6")
# Unsolved, then one way, two, and three or more: the darker, the better.
WAYS = ("#c9cdd5", "#d55e00", "#56b4e9", "#0072b2")
# Rounds of one arm: the first is where it began, and grey.
FROM_GREY = ("#8d99a6", *ARMS)
# Inches: three to a row of the page, two to a row, and one axis as long as the other.
SIZE, WIDE, SQUARE = (4.3, 2.7), (6.0, 3.3), (4.4, 4.1)

# What the guard did, above the round after which it did it.
SIGNS = {Action.REINJECT: "^", Action.ROLLBACK: "<", Action.HALT: "s"}
DASHED = (0, (4, 3))
# Axis of the evidence: from a tenth to a million.
LEAST_LOG_E, MOST_LOG_E = log(0.1), log(1e6)


class Mark(NamedTuple):
    """A round after which the guard spoke."""

    round: int
    action: Action
    carried_out: bool


class Limit(NamedTuple):
    """The worst value that is tolerated of a number, from its baseline round on."""

    baseline: int
    worst: float


@dataclass(frozen=True)
class Line:
    """One arm's number over the rounds.

    Attributes:
        points: (round, value); an undefined value is a gap.
        marks: (round, action) where the guard spoke, and whether it was carried out.
        limits: the worst values that are tolerated.
    """

    points: Sequence[tuple[int, Value]]
    marks: Sequence[Mark] = ()
    limits: Sequence[Limit] = ()


def curves(
    lines: Mapping[str, Line],
    unit: Unit,
    floor: float | None = None,
) -> Any:
    """One line per arm over the rounds, its 95 % interval as a band, undefined rounds as gaps.

    A sign above a round says what the guard did there, a dashed line what it tolerates.
    """
    figure, axes = _axes()
    draw_curves(axes, lines, unit, floor)
    return figure


def draw_curves(
    axes: Any, lines: Mapping[str, Line], unit: Unit, floor: float | None = None
) -> None:
    """`curves`, on axes that are there already."""
    scale = SHOWN[unit][0]
    for i, (name, line) in enumerate(lines.items()):
        colour = ARMS[i % len(ARMS)]
        # NaN, an undefined round, is a gap in both.
        x = [number for number, _ in line.points]
        y = [value.value * scale for _, value in line.points]
        low = [value.low * scale for _, value in line.points]
        high = [value.high * scale for _, value in line.points]
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
        style: Any = {"marker": "o", "markersize": 3.6, "linewidth": 1.8, "clip_on": False}
        axes.plot(x, y, color=colour, label=name, **style)
        for baseline, worst in line.limits:
            ends = [baseline, max(x, default=baseline)]
            axes.plot(ends, [worst * scale] * 2, color=colour, linewidth=1, linestyle=DASHED)
        draw_marks(axes, line.marks, colour, i)
        who = f"{name}, " if len(lines) > 1 else ""
        for (number, value), height in zip(line.points, y, strict=True):
            tips.add(axes, number, height, f"{who}round {number}: {with_unit(value, unit)}")
    axes.locator_params(axis="y", nbins=5)
    _rounds_axis(axes, [number for line in lines.values() for number, _ in line.points])
    if unit == "share":
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g} %")
    elif unit == "count":
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:,g}")
    elif unit == "nats":
        axes.set_ylabel(unit)
    if floor is None:
        # A quantity that may be negative: the line of zero is what it is read by.
        axes.axhline(0, color=FAINT, linewidth=1.2)
    bottom, top = axes.get_ylim()
    if floor is not None:
        axes.set_ylim(bottom=min(floor, bottom), top=top)
    if unit == "share" and top > 100:
        # Not more than all, with room for a marker at 100 %.
        axes.set_ylim(top=101)


def draw_marks(axes: Any, marks: Sequence[Mark], colour: str, row: int = 0) -> None:
    """Above the rounds where the guard spoke, what it did; `row`: one for each arm."""
    for mark in marks:
        axes.axvline(mark.round, color=colour, linewidth=0.8, alpha=0.45, linestyle=(0, (1, 2)))
        axes.plot(
            [mark.round],
            [1.04 + 0.075 * row],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            linestyle="",
            marker=SIGNS[mark.action],
            markersize=5,
            color=colour,
            # Hollow: written down, and nothing was done.
            markerfacecolor=colour if mark.carried_out else "none",
        )


def evidence(
    lines: Mapping[str, Sequence[tuple[int, float]]],
    limits: Sequence[tuple[int, float]],
    marks: Sequence[Mark],
    colours: Mapping[str, str],
) -> Any:
    """The evidence of one tier over the rounds, on a logarithmic axis, with its limit.

    Args:
        lines: name -> (round, log e-value); the first is that of all quantities together, which is
            what acts; of the others each is a quantity's own.
        limits: (round, log of the limit).
        marks: where the guard spoke.
        colours: name -> colour.
    """
    figure, axes = _axes(WIDE)
    for i, (name, points) in enumerate(lines.items()):
        x = [number for number, _ in points]
        # Tens of nats are as convincing as hundreds, and would flatten everything else.
        y = [min(max(log_e, LEAST_LOG_E), MOST_LOG_E) for _, log_e in points]
        width = 2.4 if i == 0 else 1.3
        axes.plot(x, y, color=colours[name], marker="o", markersize=3, linewidth=width)
        for (number, log_e), height in zip(points, y, strict=True):
            tips.add(axes, number, height, f"{name}, round {number}: e = {plain(log_e)}")
    # A line over one round has no width.
    marker = "_" if len(limits) == 1 else ""
    style: Any = {"linewidth": 1.2, "linestyle": DASHED, "marker": marker, "markersize": 18}
    axes.plot(*zip(*limits, strict=True), color=INK, **style)
    draw_marks(axes, marks, INK)
    _rounds_axis(axes, [number for points in lines.values() for number, _ in points])
    low, high = axes.get_ylim()
    ticks = [log(10) * power for power in range(math.ceil(low / log(10)), int(high / log(10)) + 1)]
    axes.set_yticks(ticks, [plain(tick) for tick in ticks])
    axes.set_ylabel("evidence e")
    return figure


def strategy_areas(
    run: RunData,
    names: Sequence[str],
    upto: int | None = None,
    legend: bool = False,
    marks: Sequence[Mark] = (),
) -> Any:
    """Strategy shares of the probe samples as stacked areas over the rounds.

    `names` fixes order and colours.
    """
    rounds = [r for r in run.rounds if upto is None or r.number <= upto]
    shares = {r.number: grouped_shares(r, names) for r in rounds}
    return areas(shares, legend_colours(names, BANDS), legend, marks)


def areas(
    by_round: Mapping[int, Mapping[str, float]],
    colour_of: Mapping[str, str],
    legend: bool = False,
    marks: Sequence[Mark] = (),
) -> Any:
    """Shares by round and name as stacked areas, in the order of `colour_of`.

    A round without any is a gap.
    """
    figure, axes = _axes(WIDE)
    x, shares = [float(number) for number in by_round], list(by_round.values())
    kept = [name for name in colour_of if any(name in share for share in shares)]
    for number, share in by_round.items():
        height = 0.0
        for name in kept:
            part = share.get(name, 0.0) * 100
            # In the middle of its band; a band that cannot be seen cannot be pointed at.
            if part >= 2:
                tips.add(axes, number, height + part / 2, f"round {number}: {name} {part:.0f} %")
            height += part
    if len(x) == 1:
        # An area over one round has no width: give it some.
        x, shares = [x[0] - 0.25, x[0] + 0.25], shares * 2
    if kept:
        nothing = dict.fromkeys(kept, math.nan)
        bands = [[(share or nothing).get(name, 0.0) * 100 for share in shares] for name in kept]
        colours = [colour_of[name] for name in kept]
        axes.stackplot(x, bands, labels=kept, colors=colours, alpha=0.92)
    _rounds_axis(axes, list(by_round))
    axes.set_ylim(0, 100)
    axes.set_xlim(x[0], x[-1])
    draw_marks(axes, marks, INK)
    if legend and kept:
        figure.legend(
            loc="outside upper center", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK
        )
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g} %")
    return figure


def reliability_diagram(rounds: Sequence[tuple[str, RoundData]], legend: bool = False) -> Any:
    """How often the majority answer is right, by how many of the other samples agree with it.

    On the diagonal the model is calibrated. A dot's area grows with the problems behind it.
    """
    figure, axes = _axes(SQUARE)
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=DASHED)
    for (label, round), colour in zip(rounds, _cycle(FROM_GREY, len(rounds)), strict=True):
        bins = reliability(round)
        x = [100 * agreement for agreement, _, _ in bins]
        y = [100 * right for _, right, _ in bins]
        total = max(1, sum(count for _, _, count in bins))
        # Square points: 8 keeps a bin of one problem visible, 98 is a bin of all of them.
        area = [8 + 90 * count / total for _, _, count in bins]
        axes.plot(x, y, color=colour, linewidth=1.6, label=label)
        axes.scatter(x, y, s=area, color=colour, linewidths=0)
        for agreement, right, count in bins:
            text = f"{label}: {100 * right:.0f} % right where {100 * agreement:.0f} % agree"
            tips.add(axes, 100 * agreement, 100 * right, f"{text} ({count:g} problems)")
    if legend:
        figure.legend(
            loc="outside upper center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK
        )
    axes.set(
        xlim=(-3, 103), ylim=(-3, 103), xlabel="samples that agree", ylabel="majority is right"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda tick, _: f"{tick:g} %")
        axis.set_ticks([0, 25, 50, 75, 100])
    return figure


def training_loss(run: RunData, marks: Sequence[Mark] = ()) -> Any:
    """The objective's loss over the training steps of each round, a segment between two rounds."""
    figure, axes = _axes(WIDE)
    for round in run.rounds:
        rows = [row for row in round.train.get("loss", []) if row.get("loss") is not None]
        if not rows:
            continue
        # A round has the same width whatever its number of steps: some have two, some hundreds.
        steps = [round.number - 1 + row["step"] / rows[-1]["step"] for row in rows]
        losses = [row["loss"] for row in rows]
        # One or two points make no visible line.
        marker = "o" if len(rows) < 3 else ""
        axes.plot(steps, losses, color=ARMS[0], linewidth=1.5, marker=marker, markersize=3)
        axes.axvline(round.number, color=FAINT, linewidth=0.6, alpha=0.5)
    draw_marks(axes, marks, INK)
    _rounds_axis(axes, [round.number for round in run.rounds])
    axes.set_ylim(bottom=0)
    return figure


def legend_colours(names: Sequence[str], palette: Sequence[str]) -> dict[str, str]:
    """Name -> colour, as the figures use it."""
    return dict(zip(names, _cycle(palette, len(names)), strict=True))


def _axes(size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes: Any) -> None:
    """As every chart looks."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.6, alpha=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9.5, length=0)
    axes.xaxis.label.set(color=INK, fontsize=9.5)
    axes.yaxis.label.set(color=INK, fontsize=9.5)


def _rounds_axis(axes: Any, numbers: Sequence[int]) -> None:
    last = max(numbers, default=0)
    # Ten labels are as many as the width takes.
    axes.set_xticks(range(0, last + 1, max(1, math.ceil((last + 1) / 10))))
    axes.set_xlim(-0.25, last + 0.25)
    axes.set_xlabel("round")


def _cycle(colours: Sequence[str], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]
