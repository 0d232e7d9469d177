"""The figures of the report and of MLflow.

Small matplotlib charts, and how one becomes SVG that follows the page's colours.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.views.measures import Value, reliability, strategy_shares
from ouroloop.loop.views.reader import RoundData, RunData

INK, FAINT = "#2b3443", "#c9cdd5"
"""Stand-ins that `svg` turns into the page's text and line colours.

In a PNG they are read as they are.
"""

ARMS = ("#2a78b8", "#d1682c", "#3d9470", "#a0569c", "#8a7a2b", "#5b6b7a")
BANDS = ("#3b7dbf", "#e0a23a", "#5aa376", "#c25b6e", "#8572b8", "#6fb3c4", "#b0895d", "#8d99a6")
SIZE, WIDE, SQUARE = (4.3, 2.7), (6.0, 3.3), (4.4, 4.1)


def curves(
    lines: Mapping[str, Sequence[tuple[int, Value]]], unit: str, floor: float | None = None
) -> Any:
    """One line per arm over the rounds, its 95 % interval as a band, undefined rounds as gaps.

    Lines: name -> (round, value).
    """
    figure, axes = _axes()
    scale = 100 if unit == "share" else 1
    for (name, points), colour in zip(lines.items(), _cycle(ARMS, len(lines)), strict=True):
        x = [number for number, _ in points]
        y, low, high = (
            (
                [part * scale for part in parts]
                for parts in zip(*(value[:3] for _, value in points), strict=True)
            )
            if points
            else ([], [], [])
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(x, y, color=colour, marker="o", markersize=3.6, linewidth=1.8, label=name)
    axes.locator_params(axis="y", nbins=5)
    _rounds_axis(axes, [number for points in lines.values() for number, _ in points])
    if scale == 100:
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g} %")
    bottom, top = axes.get_ylim()
    if floor is None:
        axes.axhline(0, color=FAINT, linewidth=1.2)
        bottom, top = axes.get_ylim()
    if floor is not None:
        axes.set_ylim(bottom=min(floor, bottom) if bottom < floor else floor, top=top)
    if scale == 100 and top > 100:
        axes.set_ylim(top=101)
    return figure


def strategy_areas(
    run: RunData, names: Sequence[str], upto: int | None = None, legend: bool = False
) -> Any:
    """Strategy shares of the panel's samples as stacked areas over the rounds.

    `names` fixes order and colours.
    """
    rounds = [r for r in run.rounds if upto is None or r.number <= upto]
    shares = [strategy_shares(r) for r in rounds]
    figure, axes = _axes(WIDE)
    x = [float(r.number) for r in rounds]
    kept = [n for n in names if any(n in s for s in shares)]
    if len(x) == 1:
        x, shares = [x[0] - 0.25, x[0] + 0.25], shares * 2
    colours = [_cycle(BANDS, len(names))[list(names).index(n)] for n in kept]
    layers = (
        axes.stackplot(
            x, [[s.get(n, 0.0) * 100 for s in shares] for n in kept], colors=colours, alpha=0.92
        )
        if kept
        else []
    )
    for layer, name in zip(layers, kept, strict=True):
        layer.set_label(name)
    _rounds_axis(axes, [r.number for r in rounds])
    axes.set_ylim(0, 100)
    axes.set_xlim(x[0], x[-1])
    if legend and kept:
        figure.legend(
            loc="outside upper center", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK
        )
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g} %")
    return figure


def reliability_diagram(rounds: Sequence[tuple[str, RoundData]], legend: bool = False) -> Any:
    """How often the majority answer is right against how many of the other samples agree with it.

    On the diagonal it is honest.

    A dot's area grows with the problems behind it.
    """
    figure, axes = _axes(SQUARE)
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    for (label, round), colour in zip(rounds, _cycle(("#8d99a6", *ARMS), len(rounds)), strict=True):
        bins = reliability(round)
        x, y = [100 * b[0] for b in bins], [100 * b[1] for b in bins]
        axes.plot(x, y, color=colour, linewidth=1.6, label=label)
        axes.scatter(
            x,
            y,
            s=[8 + 90 * b[2] / max(1, sum(c[2] for c in bins)) for b in bins],
            color=colour,
            linewidths=0,
        )
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


def training_loss(run: RunData) -> Any:
    """SFT loss over all training steps of the run, one segment per round."""
    figure, axes = _axes(WIDE)
    offset = 0
    ticks: list[tuple[float, int]] = []
    for round in run.rounds:
        rows = [row for row in round.train.get("loss", []) if row.get("loss") is not None]
        if not rows:
            continue
        steps = [offset + row["step"] for row in rows]
        axes.plot(
            steps,
            [row["loss"] for row in rows],
            color=ARMS[0],
            linewidth=1.5,
            marker="o" if len(rows) < 3 else "",
            markersize=3,
        )
        ticks.append((offset + rows[-1]["step"] / 2, round.number))
        offset += rows[-1]["step"]
        axes.axvline(offset, color=FAINT, linewidth=0.6, alpha=0.5)
    axes.set_xticks([x for x, _ in ticks], [str(number) for _, number in ticks])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("round")
    axes.set_ylim(bottom=0)
    return figure


def legend_colours(names: Sequence[str], palette: Sequence[str]) -> dict[str, str]:
    """Name -> colour, as the figures use it."""
    return dict(zip(names, _cycle(palette, len(names)), strict=True))


def svg(figure: Any, alt: str) -> str:
    """The figure as inline SVG: text stays text, colours follow the page.

    Nothing is loaded from anywhere.
    """
    import html

    import matplotlib

    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9]+(\.[a-z]+)?_\d+"', "", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px) [^;\"]*", r"font-size: \2", text)
    text = text.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" ', 1)


def save_figure(draw: Callable[[Any], None], path: Path, salt: str) -> None:
    """An empty figure, drawn on and saved as SVG.

    The same bytes for the same drawing (`salt` names it).
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        draw(figure)
        figure.savefig(
            path, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )


def _axes(size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.6, alpha=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9.5, length=0)
    axes.xaxis.label.set(color=INK, fontsize=9.5)
    axes.yaxis.label.set(color=INK, fontsize=9.5)
    return figure, axes


def _rounds_axis(axes: Any, numbers: Sequence[int]) -> None:
    last = max(numbers, default=0)
    axes.set_xticks(range(0, last + 1, max(1, math.ceil((last + 1) / 10))))
    axes.set_xlim(-0.25, last + 0.25)
    axes.set_xlabel("round")


def _cycle(colours: Sequence[str], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]
