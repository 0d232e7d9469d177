"""Values on hover: what a point of a figure says when it is pointed at, tapped or printed.

No script: each point is a transparent circle with a text beside it, which the page's style sheet
shows while the pointer is on the circle, or after a tap. Readers of a screen get it as a title.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Points of the picture: as far from its point as a finger or a pointer may be.
REACH = 9


@dataclass(frozen=True)
class Tip:
    """A text at a point of some axes, in data coordinates."""

    axes: Any
    x: float
    y: float
    text: str


def add(axes: Any, x: float, y: float, text: str) -> None:
    """Let the point (x, y) of the axes say `text`; NaN says nothing."""
    if y == y:
        # On the figure itself: it is drawn elsewhere, and a table beside it would outlive it.
        vars(axes.figure).setdefault("tips", []).append(Tip(axes, x, y, text))


def svg(figure: Any, width: float, height: float) -> str:
    """The tips of a drawn figure as SVG elements, for a view box of that size."""
    return "".join(_elements(figure, width, height))


def _elements(figure: Any, width: float, height: float) -> Iterator[str]:
    for tip in vars(figure).get("tips", []):
        at = figure.transFigure.inverted().transform(tip.axes.transData.transform((tip.x, tip.y)))
        # SVG counts from the top, matplotlib from the bottom.
        x, y = float(at[0]) * width, (1 - float(at[1])) * height
        # A text in the middle of the picture fits either way; one at an edge has to turn inwards.
        anchor = "start" if at[0] < 1 / 3 else "end" if at[0] > 2 / 3 else "middle"
        text = html.escape(tip.text)
        yield (
            f'<g class="tip" tabindex="-1"><title>{text}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{REACH}"/>'
            f'<text x="{x:.1f}" y="{max(y - REACH, REACH):.1f}" text-anchor="{anchor}">{text}'
            "</text></g>"
        )
