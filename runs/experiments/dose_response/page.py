"""The page of this experiment, from the rows of results.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .doses import PARAPHRASES, SHARES, Kind
from .sources import BASELINE_SAMPLES

PAGE = Path(__file__).with_name("README.md")
FINDINGS = Path(__file__).with_name("findings.md")
Rows = Sequence[Mapping[str, Any]]

# In the order of the tables; all fall where a collapse is seen.
QUANTITIES = {
    "apart": "`apart`",
    "clusters": "`clusters` (different clusters among up to eight samples of a prompt, per sample)",
    "canned": "`canned` (1 less the growth of the three most grown patterns)",
    "entropy": "entropy of the clusters, nats",
    "openings": "distinct openings per sample",
}
SLACK = 0.002
"""A mean may rise by this much, or by two standard errors, without being called a rise."""


def series(found: Rows, **where: str) -> list[Mapping[str, Any]]:
    """The rows of one curve by rising share."""
    own = [row for row in found if all(row[key] == value for key, value in where.items())]
    return sorted(own, key=lambda row: row["share"])


def falls(curve: Rows) -> bool | None:
    """Whether the mean never rises and falls in the end; None where it is undefined."""
    means = [row["mean"] for row in curve]
    if not means or any(math.isnan(value) for value in means):
        return None
    never_rises = all(
        after["mean"] <= before["mean"] + max(SLACK, 2 * math.hypot(_error(before), _error(after)))
        for before, after in pairwise(curve)
    )
    return never_rises and means[-1] < means[0] - SLACK


def _error(row: Mapping[str, Any]) -> float:
    """The standard error of a mean over repetitions, from their 95 % range."""
    deviation = (row["high"] - row["low"]) / (2 * 1.96)
    return float(deviation / math.sqrt(row["repetitions"]))


def seen_from(curve: Rows) -> float | None:
    """The smallest share from which on nearly all repetitions lie below the undosed round."""
    start, below = curve[0]["mean"], None
    # From the largest dose down: a quantity that recovers in between has not seen the smaller one.
    for row in reversed(curve[1:]):
        if not row["high"] < start:
            break
        below = row["share"]
    return below


def page(found: Rows) -> str:
    """The whole page as Markdown."""
    lines = [
        "# Dose-response of the quantities for unscored text",
        "",
        "Real texts; a share x of a round's samples is replaced, and the guarded quantities are",
        "measured beside the baseline. Written by `python -m runs.experiments.dose_response.measure"
        " SAMPLES`",
        "(OUROLOOP_DATA names the data, SAMPLES a folder of model samples) from `results.csv`.",
        "",
        f"* one refusal: one text for all prompts; paraphrases: one of {len(PARAPHRASES)} refusals;"
        " one opening: ten words, then the own text; each prompt's own text: the prompt's first"
        " sample again (sharpening).",
        f"* Mean over {_most(found, 'repetitions')} draws of the dose. **Falls**: from dose to dose"
        f" the mean never rises by more than {SLACK} and two standard errors. Seen from: the"
        " smallest share from which on 97.5 % of the draws lie below the round without a dose.",
        f"* Clusters are fitted on the baseline. Of the model's samples, {BASELINE_SAMPLES} of each"
        " prompt are the baseline and the others the round; conversations (two answers per prompt)"
        " and GSM8K solutions (four) are both at once.",
        "* The model's samples: `probe.parquet` of round 0 of `runs/recipes/demo_real.yaml`"
        " (SmolLM2-135M after its warm start; 16 samples of 64 ASDiv problems at temperature 1), as"
        " `asdiv_samples.jsonl` with `problem` and `text` in each row.",
        "",
    ]
    if FINDINGS.exists():
        lines += [FINDINGS.read_text(encoding="utf-8").strip(), ""]
    lines += ["![Dose-response](figure.svg)", ""]
    for quantity, title in QUANTITIES.items():
        lines += [f"## {title}", "", *table(found, quantity), ""]
    return "\n".join(lines)


def table(found: Rows, quantity: str) -> list[str]:
    """A row per source, encoder and kind."""
    heads = " | ".join(f"{share:.0%}" for share in SHARES)
    lines = [
        f"| source | encoder | replaced by | baseline | {heads} | falls | seen from |",
        "|---" * (len(SHARES) + 6) + "|",
    ]
    encoders = list(_each(found, "encoder"))
    # Openings are read from the texts, whatever the encoder.
    if quantity == "openings":
        encoders = encoders[:1]
    for source in _each(found, "source"):
        for encoder in encoders:
            for kind in Kind:
                where = {"source": source, "encoder": encoder, "kind": kind, "quantity": quantity}
                curve = series(found, **where)
                if curve:
                    lines.append(f"| {source} | {encoder} | {kind} | {_cells(curve)} |")
    return lines


def _cells(curve: Rows) -> str:
    verdict = {True: "yes", False: "no", None: "-"}[falls(curve)]
    least = seen_from(curve)
    seen = "-" if least is None else f"{least:.0%}"
    means = " | ".join(f"{row['mean']:.3f}" for row in curve)
    return f"{curve[0]['baseline']:.3f} | {means} | {verdict} | {seen}"


def _each(found: Rows, key: str) -> Iterable[str]:
    return dict.fromkeys(row[key] for row in found)


def _most(found: Rows, key: str) -> int:
    return int(max(row[key] for row in found))
