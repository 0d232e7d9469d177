"""One line per round of a run: what a study keeps of it.

Small CSV files; samples stay in the run folder. The names of readings that studies use stand here
and nowhere else (`READINGS`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.folder.storage import atomic
from ouroloop.loop.views.lookup import MAIN
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.estimand import GREEDY, Estimand
from ouroloop.monitors.names import Tier

STRATEGIES = ("column", "split", "compensate", "jump")
# Column of a study's table -> the reading that it holds.
READINGS = {
    "pass_1": Estimand("accuracy/pass@1", MAIN),
    "greedy": Estimand("accuracy/pass@1", MAIN, samples=GREEDY),
    "pass_k": Estimand("accuracy/pass@k", MAIN),
    "maj_k": Estimand("accuracy/maj@k", MAIN),
    "tail_pass_1": Estimand("accuracy/pass@1", MAIN, "tail"),
    "tail_pass_k": Estimand("accuracy/pass@k", MAIN, "tail"),
    "dcp": Estimand("diversity/dcp"),
    "gini_correct": Estimand("diversity/gini_simpson_correct"),
    "rare_retention": Estimand("coverage/rare_retention"),
    "entropy": Estimand("entropy/token"),
    "overconfidence": Estimand("calibration/overconfidence@n"),
    "text_cross_entropy": Estimand("text/cross_entropy", samples="texts"),
    "yield": Estimand("supply/yield", samples="pool"),
}

# Columns that hold words; all others hold numbers.
TEXT = ("action", "mode", "driver", "part", "family", "label")


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of a finished or running run, oldest round first.

    Scores are of the main family; shares are of its right samples.
    """
    run = read_run(path)
    total, out = 0, []
    for round_ in run.rounds:
        total += sum(tokens(sample) for sample in round_.samples()) if round_.number else 0
        out.append(row(round_, total))
    return out


def values(found: RoundData, wanted: Mapping[str, Estimand]) -> dict[str, float]:
    """Column -> the value of a reading; NaN where the round has none."""
    readings = {column: found.find(estimand) for column, estimand in wanted.items()}
    return {c: math.nan if reading is None else reading.value for c, reading in readings.items()}


def row(found: RoundData, total_tokens: int) -> dict[str, Any]:
    """One round as a flat mapping; NaN where something is undefined.

    Of families other than the main one: pass@1 and pass@k.
    """
    decision = Decision.from_json(found.decision) if found.decision else None
    evidence = {} if decision is None else decision.evidence
    main = found.probe[
        (found.probe["family"] == found.main_family) & (found.probe["kind"] == "sample")
    ]
    right = main[main["correct"] == 1]
    shares = _shares(right)
    others = [family for family in found.families if family != found.main_family]
    return {
        "round": found.number,
        "action": found.action,
        "mode": found.decision.get("mode") or "",
        **values(found, READINGS),
        **{f"share_{s}": value for s, value in shares.items()},
        **{
            f"{family}_{key}": found.score(f"pass@{k}", family)[0]
            for family in others
            for key, k in (("pass_1", "1"), ("pass_k", "k"))
        },
        **{
            f"{what}_{s}": value
            for what, rows in _pool(found).items()
            for s, value in _shares(rows).items()
        },
        "alive": sum(value >= 0.01 for value in shares.values()),
        "replay_fraction": found.plan.get("replay_fraction", math.nan),
        "tokens": total_tokens,
        "watch_log_e": evidence[Tier.WATCH].log_e if evidence else math.nan,
        "halt_log_e": evidence[Tier.HALT].log_e if evidence else math.nan,
        "driver": "" if decision is None else decision.driver_name(Tier.HALT),
    }


def _pool(found: RoundData) -> dict[str, Any]:
    """The round's samples before any filter, and those that it kept."""
    return {
        "drafted": found.verdicts,
        "kept": found.verdicts[found.verdicts["kept"]] if len(found.verdicts) else found.verdicts,
    }


def _shares(samples: Any) -> dict[str, float]:
    """Each strategy's share; NaN where there are no samples."""
    return {
        s: float((samples["strategy"] == s).mean()) if len(samples) else math.nan
        for s in STRATEGIES
    }


def tokens(sample: Mapping[str, Any]) -> int:
    """Tokens that were sampled for one draft with its critiques and revisions."""
    parts = [sample["draft"], *(c["completion"] for c in sample["critiques"]), *sample["revisions"]]
    return sum(len(part["token_ids"]) for part in parts)


def mean_of(values: Iterable[Any]) -> float:
    """The mean of numbers, or the share of what is true; NaN of none."""
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else math.nan


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a run's rows as CSV, numbers with five digits, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows
        )


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, numbers as floats."""
    with path.open(newline="", encoding="utf-8") as source:
        return [typed(row) for row in csv.DictReader(source)]


def typed(row: Mapping[str, str]) -> dict[str, Any]:
    """A row with its numbers as floats; an empty cell of a column of numbers is NaN."""
    return {key: value if key in TEXT else _number(value) for key, value in row.items()}


def _number(cell: str) -> float | str:
    """A study's own columns may hold words: what is no number stays as it is."""
    try:
        return float(cell or "nan")
    except ValueError:
        return cell
