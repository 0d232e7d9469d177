"""The figure: `apart`, `clusters` and `canned` by the share that was replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .doses import SHARES, Kind
from .page import Rows, series

FIGURE = Path(__file__).with_name("figure.svg")
SHOWN = ("apart", "clusters", "canned")
STYLES = {"lexical": "-", "all-minilm-l6-v2": "--"}


def draw(found: Rows, path: Path) -> None:
    """A row of axes per quantity, a column per kind; a colour per source, a style per encoder."""
    import matplotlib
    from matplotlib.figure import Figure

    # Without a date and with fixed ids, the same numbers give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "dose_response"
    figure = Figure(figsize=(13, 8.5), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(Kind), sharex=True, sharey="row")
    names = list(dict.fromkeys(row["source"] for row in found))
    for row, quantity in enumerate(SHOWN):
        for column, kind in enumerate(Kind):
            _panel(axes[row][column], found, names, quantity, kind)
            axes[0][column].set_title(f"replaced by {kind}", fontsize=9)
        axes[row][0].set_ylabel(quantity, fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def _panel(axes: Any, found: Rows, names: list[str], quantity: str, kind: str) -> None:
    for number, name in enumerate(names):
        for encoder, style in STYLES.items():
            where = {"source": name, "encoder": encoder, "kind": kind, "quantity": quantity}
            curve = series(found, **where)
            if not curve:
                continue
            x = [point["share"] for point in curve]
            y = [point["mean"] for point in curve]
            low = [point["low"] for point in curve]
            high = [point["high"] for point in curve]
            label = f"{name}, {encoder}"
            axes.plot(x, y, style, color=f"C{number}", marker=".", linewidth=1, label=label)
            axes.fill_between(x, low, high, color=f"C{number}", alpha=0.12, linewidth=0)
    axes.set_xticks(SHARES[3:])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("share replaced", fontsize=8)
