"""Further tables of the page: changes since round 0, pass@k at both ends, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Rows,
    average,
    cell,
    change_table,
    first,
    last,
    markdown,
    round_table,
)

from .beyond import KS, PLAIN

SETTING = "[setting.md](setting.md) says what is practised, by which arms, and how it is measured."
CHANGES = {
    "pass@1": ("far_pass_1", "%"),
    "pass@64": ("far_pass_64", "%"),
    "DCP": ("far_dcp", "%"),
    "SVAMP, pass@1": ("svamp_pass_1", "%"),
    "prose's NLL, nats a token": ("prose_nll", ""),
}
OVER_ROUNDS = {
    "pass@1": ("pass_1", "%"),
    "greedy": ("greedy", "%"),
    "pass@8": ("pass_k", "%"),
    "DCP": ("dcp", "%"),
    "over-confidence": ("overconfidence", "%"),
    "token entropy, nats": ("entropy", ""),
    "demonstrations' NLL": ("text_cross_entropy", ""),
    "kept samples, share": ("yield", "%"),
    "replay fraction": ("replay_fraction", "%"),
}


def notes(results: Results) -> list[str]:
    """Markdown lines."""
    return ["", SETTING, *changes(results), *curves(results), *over_rounds(results)]


def changes(results: Results) -> list[str]:
    """What each arm gained or lost, on problems and texts that no round asks."""
    how = "problem by problem (prose: text by text), on what no round asks"
    interval = "[95 % interval over the problems of one run, averaged over seeds]"
    return [
        *_changes(results, list(results), "", f"The last model less round 0's, {how}; {interval}:"),
        *_changes(
            results,
            [arm for arm in results if arm != PLAIN],
            "_over",
            f"The last model less `{PLAIN}`'s of the same seed, likewise:",
        ),
    ]


def _changes(results: Results, arms: Sequence[str], which: str, head: str) -> list[str]:
    return ["", head, "", *change_table(results, arms, CHANGES, which)] if arms else []


def curves(results: Results) -> list[str]:
    """The unbiased pass@k of the first and the last model."""
    lines = [
        "",
        "pass@k on 100 held-out problems that no round asks, 64 samples each, T = 1, per cent:",
        "",
    ]
    grid = [["model", *(f"k = {k}" for k in KS)]]
    shown: list[tuple[str, str, Callable[[str], Callable[[Rows], float]]]] = []
    if results:
        shown.append(("round 0", next(iter(results)), first))
    shown += [(arm, arm, last) for arm in results]
    for name, arm, which in shown:
        found = [average(results, arm, which(f"far_pass_{k}")) for k in KS]
        grid.append([name, *(cell(each, "%") for each in found)])
    return [*lines, *markdown(grid)]


def over_rounds(results: Results) -> list[str]:
    """The probe set's values."""
    head = "Round by round on the probe set (T = 1), means over the seeds, shares in per cent:"
    return ["", head, "", *round_table(results, OVER_ROUNDS)]
