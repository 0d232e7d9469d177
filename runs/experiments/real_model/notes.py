"""Further tables of the page: changes since round 0, pass@k at both ends, round by round."""

from __future__ import annotations

import math
from collections.abc import Callable

from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Rows, average, cell, first, last
from ouroloop.monitors.estimators.stats import mean

from .beyond import KS
from .findings import changed

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
    lines = [
        "",
        "The last model less round 0's, problem by problem (prose: text by text), on what no round"
        " asks; [95 % interval over the problems of one run, averaged over seeds]:",
        "",
        _row("arm", *CHANGES),
        "|---" * (len(CHANGES) + 1) + "|",
    ]
    for arm in results:
        cells = [cell(changed(results, name, arm), unit) for name, unit in CHANGES.values()]
        lines.append(_row(arm, *cells))
    return lines


def curves(results: Results) -> list[str]:
    """The unbiased pass@k of the first and the last model."""
    lines = [
        "",
        "pass@k on 100 held-out problems that no round asks, 64 samples each, T = 1, per cent:",
        "",
        _row("model", *(f"k = {k}" for k in KS)),
        "|---" * (len(KS) + 1) + "|",
    ]
    shown: list[tuple[str, str, Callable[[str], Callable[[Rows], float]]]] = []
    if results:
        shown.append(("round 0", next(iter(results)), first))
    shown += [(arm, arm, last) for arm in results]
    for name, arm, which in shown:
        found = [average(results, arm, which(f"far_pass_{k}")) for k in KS]
        lines.append(_row(name, *(cell(each, "%") for each in found)))
    return lines


def over_rounds(results: Results) -> list[str]:
    """The probe set's values, means over the seeds."""
    num = max((len(run) for runs in results.values() for run in runs.values()), default=0)
    lines = [
        "",
        "Round by round on the probe set (T = 1), means over the seeds:",
        "",
        _row("arm", "", *(str(number) for number in range(num))),
        "|---" * (num + 2) + "|",
    ]
    for arm, runs in results.items():
        for shown, (name, unit) in OVER_ROUNDS.items():
            values = [
                [float(run[number][name]) for run in runs.values() if number < len(run)]
                for number in range(num)
            ]
            lines.append(_row(arm, shown, *(_plain(found, unit) for found in values)))
        for seed, run in sorted(runs.items()):
            acted = [str(row["action"]) for row in run]
            lines.append(_row(arm, f"decision, seed {seed}", *acted, *[""] * (num - len(run))))
    return lines


def _plain(values: list[float], unit: str) -> str:
    value = mean(values).value
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.2f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
