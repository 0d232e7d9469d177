"""Further tables of the page: paired differences, chains by family, calibration, tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import (
    Rows,
    alarmed,
    average,
    cell,
    first,
    gain,
    kept,
    last,
    markdown,
)

from .arms import FEW, FILTERS, GUARDED, REFINING, name_of
from .chains import FIRST
from .findings import LONGER, others, practised
from .measure import PARTS, WAYS

SHOWN: Mapping[str, Callable[[Rows], float]] = {
    "pass@1": last("pass_1"),
    "greedy": last("greedy"),
    "pass@8": last("pass_k"),
    "tail, pass@1": last("tail_pass_1"),
    "harder practised families": practised,
    "longer sums": last(f"{LONGER}_pass_1"),
    "other families": others,
    "DCP kept": kept("dcp"),
}


def notes(results: Results) -> list[str]:
    """Markdown lines."""
    return [
        *differences(results),
        *by_family(results),
        *sureness(results),
        *tokens(results),
    ]


def differences(results: Results) -> list[str]:
    """What each way to refine, and the guard, changes on common seeds, in points."""
    lines = [
        "Differences on common seeds, in points:",
        "",
        f"| | {' | '.join(SHOWN)} |",
        "|---" * (len(SHOWN) + 1) + "|",
    ]
    for filtered in FILTERS:
        for refined in REFINING:
            plain = name_of(filtered, "drafts")
            if refined != "drafts":
                lines += _difference(results, name_of(filtered, refined), plain)
        lines += _difference(results, name_of(filtered, "both"), name_of(filtered, FEW))
        for refined in REFINING:
            lines += _difference(
                results, name_of(filtered, refined, True), name_of(filtered, refined)
            )
    return lines


def _difference(results: Results, arm: str, over: str) -> list[str]:
    if not (results.get(arm) and results.get(over)):
        return []
    cells = [cell(gain(results, arm, over, column), "%") for column in SHOWN.values()]
    return [f"| {arm} - {over} | {' | '.join(cells)} |"]


def by_family(results: Results) -> list[str]:
    """Right answers gained by a revision, points of all drafts, by family and on the tail."""
    lines = [
        "",
        "What a revision changes, of drafts at the loop's temperature: right answers after it less"
        " right drafts, in points of all drafts; `answering` revises what the model's own critique"
        " rejects, `direct` every draft. Held-out problems; the model that is asked stands first.",
        "",
    ]
    grid = [["model", "revision", *PARTS]]
    asked = [(FIRST, "the start", first)]
    asked += [(arm, arm, last) for arm in results if GUARDED not in arm]
    for arm, shown, which in asked:
        for way in WAYS:
            found = [average(results, arm, which(f"{way}_{part}")) for part in PARTS]
            if results.get(arm):
                grid.append([shown, way, *(cell(e, "%") for e in found)])
    return [*lines, *markdown(grid)]


CALIBRATION = {
    "votes: over-confidence": "overconfidence",
    "votes, other families": "over_others",
    "token probability less accuracy": "token_gap",
    "... other families": "others_token_gap",
    "... ranks right above wrong (AUROC)": "token_auroc",
    "... other families, AUROC": "others_token_auroc",
    "own critic, balanced accuracy": "own_accuracy",
    "frozen judge": "frozen_accuracy",
    "own critic approves wrong drafts": "own_approves_wrong",
    "frozen judge approves them": "frozen_approves_wrong",
    "own critic, no verdict": "own_unreadable",
    "own critic, over-confidence": "own_over",
}


def sureness(results: Results) -> list[str]:
    """How sure the models are, by votes, tokens and critics; the base first."""
    lines = [
        "",
        "Calibration of the last model (0 is calibrated; below, under-confident):",
        "",
    ]
    grid = [["model", *CALIBRATION]]
    asked = [(FIRST, "the start", first)] + [(arm, arm, last) for arm in results]
    for arm, shown, which in asked:
        if results.get(arm):
            cells = [cell(average(results, arm, which(n)), "%") for n in CALIBRATION.values()]
            grid.append([shown, *cells])
    return [*lines, *markdown(grid)]


def tokens(results: Results) -> list[str]:
    """What each arm sampled, thousands of tokens over all rounds, and what its guard did."""
    kinds = ("draft_tokens", "critique_tokens", "revision_tokens")
    lines = [
        "",
        "Sampled tokens over the run, thousands; the round of the first WATCH or HALT:",
        "",
    ]
    grid = [["arm", "drafts", "critiques", "revisions", "all"]]
    grid[0] += ["wrong drafts repaired, of revised ones", "right ones spoilt"]
    grid[0] += ["critiques without a verdict, first round", "... last round"]
    grid[0] += ["first alarm", "rounds"]
    for arm in results:
        spent = [average(results, arm, total(kind)) for kind in kinds]
        every = average(results, arm, lambda run: float(run[-1]["tokens"]) / 1000)
        changed = [average(results, arm, over_rounds(n)) for n in ("repaired", "spoilt")]
        changed += [average(results, arm, which("unreadable")) for which in (in_round_1, last)]
        cells = [cell(e) for e in (*spent, every)] + [cell(e, "%") for e in changed]
        cells += [cell(average(results, arm, c)) for c in (alarmed, last("round"))]
        grid.append([arm, *cells])
    return [*lines, *markdown(grid)]


def total(name: str) -> Callable[[Rows], float]:
    """The sum over the rounds, in thousands."""
    return lambda run: sum(float(row[name]) for row in run) / 1000


def in_round_1(name: str) -> Callable[[Rows], float]:
    """The value of the round that the starting model sampled."""
    return lambda run: float(run[1][name])


def over_rounds(name: str) -> Callable[[Rows], float]:
    """The mean over the rounds that have the value; NaN of none."""

    def mean_of(run: Rows) -> float:
        known = [float(row[name]) for row in run if row[name] == row[name]]
        return sum(known) / len(known) if known else float("nan")

    return mean_of
