"""How a figure becomes SVG: within a page, whose colours it follows, or as a file of its own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ouroloop.loop.views import tips
from ouroloop.loop.views.figures import FAINT, INK

# With the date of writing in it, no figure would be the same twice.
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def inline(figure: Any, alt: str) -> str:
    """The figure as inline SVG: text stays text, colours follow the page.

    Nothing is loaded from anywhere, and the same figure gives the same bytes.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    # Inside a page: no XML header, no metadata, no ids that a second figure would repeat, no fixed
    # size, and fonts by the page.
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9]+(\.[a-z]+)?_\d+"', "", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px) [^;\"]*", r"font-size: \2", text)
    text = on_page(text)
    width, height = (72 * inches for inches in figure.get_size_inches())
    text = text.replace("</svg>", f"{tips.svg(figure, width, height)}</svg>")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" ', 1)


def on_page(text: str) -> str:
    """The stand-ins for text and lines in the page's own colours, which are light or dark."""
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")


def save_figure(draw: Callable[[Any], None], path: Path, salt: str) -> None:
    """An empty figure, drawn on and saved as SVG.

    The same bytes for the same drawing (`salt` names it).
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        draw(figure)
        figure.savefig(path, format="svg", metadata=NO_METADATA)
