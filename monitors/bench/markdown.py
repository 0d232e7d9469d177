"""Tables and shares of the pages, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table; what looks like a number stands on the right."""
    body = [[str(cell) for cell in line] for line in lines]
    if not body:
        raise FileNotFoundError("no results")
    rule = []
    for column in zip(*body, strict=True):
        are_numbers = all(cell[:1].isdigit() or cell[:1] in "+-" for cell in column)
        rule.append("---:" if are_numbers else "---")
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), rule, *body])


def percent(hits: int, num: int) -> str:
    """A share, rounded to whole per cent, or what there is no share of."""
    return f"{100 * hits / num:.0f} %" if num else "-"
