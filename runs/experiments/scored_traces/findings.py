"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, kept, last, markdown
from ouroloop.monitors.estimators.stats import Estimate

# What `afterwards.py` writes.
DEMO = Path(__file__).with_name("demo.csv")

# What counts as the loss: a quarter of round 0's distinct-correct pairs, two points of the others.
DCP_LEFT = 0.75
POINTS = 0.02
# Share of the probability that is left, below which the scored answers announce a loss.
RETAINED_LEFT = 0.60
# The tolerance of the sampled quantity, on the scored one.
SCORED_DCP_LEFT = 0.90

# Runs of a kind below which nothing that all of them show is called shown.
FEWEST = 3

COLLAPSING, HEALTHY = ("sharpen",), ("fixed_30",)


def first_round(run: Rows, is_so: Callable[[Mapping[str, Any]], bool]) -> float:
    """The first round after round 0 of which this is true; NaN: none."""
    return next((float(row["round"]) for row in run[1:] if is_so(row)), math.nan)


def dcp_lost(run: Rows) -> float:
    """When the sampled distinct-correct-pair probability was a quarter below round 0's."""
    return first_round(run, lambda row: row["dcp"] < DCP_LEFT * run[0]["dcp"])


def points_lost(run: Rows) -> float:
    """When pass@k of all problems, or of the tail, was two points below round 0's."""
    return first_round(
        run,
        lambda row: any(row[name] < run[0][name] - POINTS for name in ("pass_k", "tail_pass_k")),
    )


def watched(run: Rows) -> float:
    """When the rule's evidence from sampled quantities reached WATCH's limit."""
    return first_round(run, lambda row: row["watch_share"] >= 1)


def halted(run: Rows) -> float:
    """The same of HALT."""
    return first_round(run, lambda row: row["halt_share"] >= 1)


def retained_fell(run: Rows) -> float:
    """When the answers had kept less than `RETAINED_LEFT`."""
    return first_round(run, lambda row: row["retained"] < RETAINED_LEFT)


def scored_dcp_fell(run: Rows) -> float:
    """When the scored distinct-correct-pair probability lay 10 % below round 0's."""
    return first_round(run, lambda row: row["scored_dcp"] < SCORED_DCP_LEFT * run[0]["scored_dcp"])


COLUMNS: Columns = {
    "pass@1 at the end": (last("pass_1"), "%"),
    "DCP kept, sampled": (kept("dcp"), "%"),
    "DCP kept, scored": (kept("scored_dcp"), "%"),
    "retained": (last("retained"), "%"),
    "retained per token": (last("retained_token"), "%"),
    "real texts retained": (last("text_retained"), "%"),
}

SIGNALS: Mapping[str, Callable[[Rows], float]] = {
    "DCP a quarter down": dcp_lost,
    "pass@k or tail 2 points down": points_lost,
    "WATCH (sampled)": watched,
    "HALT (sampled)": halted,
    f"retained below {RETAINED_LEFT:.0%}": retained_fell,
    "scored DCP 10 % down": scored_dcp_fell,
}


def notes(results: Results) -> Sequence[str]:
    """When each event came and each signal spoke, run by run; then the rounds themselves."""
    out = [
        "First round of each event and signal (-: not within the run):",
        "",
    ]
    grid = [["run", *SIGNALS]]
    named = {f"{arm}-{seed}": run for arm, of in results.items() for seed, run in of.items()}
    for name, run in {**named, **demos()}.items():
        found = [signal(run) for signal in SIGNALS.values()]
        cells = ["-" if math.isnan(x) else f"{x:.0f}" for x in found]
        grid.append([name, *cells])
    out += [*markdown(grid), ""]
    names = ("dcp", "scored_dcp", "retained", "retained_token", "text_retained", "watch_share")
    grid = [["run", "round", *names]]
    for name, run in {**named, **demos()}.items():
        for row in run:
            cells = ["-" if math.isnan(row[n]) else f"{row[n]:.3f}" for n in names]
            grid.append([name, f"{row['round']:.0f}", *cells])
    return [*out, *markdown(grid)]


def demos() -> dict[str, Rows]:
    """The demo's runs by name, as `afterwards.py` scored them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rounds.read(DEMO):
        found.setdefault(str(row["label"]), []).append(row)
    return dict(found)


def goals(results: Results) -> Sequence[Goal]:
    """That the scored answers speak in time where a run collapses, and not where it does not."""
    collapsing = [run for arm in COLLAPSING for run in results.get(arm, {}).values()]
    healthy = [run for arm in HEALTHY for run in results.get(arm, {}).values()]
    return [
        _in_time("retained", retained_fell, collapsing),
        _in_time("scored DCP", scored_dcp_fell, collapsing),
        _calm("retained", retained_fell, healthy),
        _calm("scored DCP", scored_dcp_fell, healthy),
        _no_later("scored DCP", scored_dcp_fell, collapsing),
    ]


def _in_time(name: str, signal: Callable[[Rows], float], runs: Sequence[Rows]) -> Goal:
    lost = [run for run in runs if not math.isnan(dcp_lost(run))]
    early = sum(signal(run) < dcp_lost(run) for run in lost)
    return _goal(f"{name} speaks a round or more before DCP is a quarter down", early, lost)


def _calm(name: str, signal: Callable[[Rows], float], runs: Sequence[Rows]) -> Goal:
    calm = sum(math.isnan(signal(run)) for run in runs)
    return _goal(f"{name} never speaks in a healthy run", calm, runs)


def _no_later(name: str, signal: Callable[[Rows], float], runs: Sequence[Rows]) -> Goal:
    spoken = [run for run in runs if not math.isnan(signal(run))]
    early = sum(not watched(run) < signal(run) for run in spoken)
    return _goal(f"{name} speaks no later than WATCH from samples", early, spoken)


def _goal(asks: str, hits: int, runs: Sequence[Rows]) -> Goal:
    share = hits / len(runs) if runs else math.nan
    found = Estimate(share, math.nan, math.nan, len(runs))
    # A signal that was seen once may have been early by chance; one miss is a miss.
    met = None if len(runs) < FEWEST and hits == len(runs) else hits == len(runs)
    return Goal(f"{asks} (share of {len(runs)} runs)", found, met, unit="%")
