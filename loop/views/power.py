"""What a panel of this size can show before anything is run.

The decision rule's power as a table and plain sentences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ouroloop.loop.views.progress import DASH, markdown
from ouroloop.monitors.decision.populations import Design, Population, of_baseline, typical
from ouroloop.monitors.decision.power import CHANCES, WITHIN, Power, power
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.names import Tier
from ouroloop.monitors.traces.reader import TraceReader, main_family, read_traces


def population_of_run(run: Path, panel: DecisionRule) -> Population | None:
    """The samples of a run's round 0, if it is there."""
    file = run / "rounds" / "000" / "probe.parquet"
    if not file.is_file():
        return None
    rows = (row for row in pq.read_table(file).to_pylist() if row["kind"] == "sample")
    view = TraceReader().read((f"{file}:{i}", row) for i, row in enumerate(rows))
    panel = (
        panel if panel.main_family else dataclasses.replace(panel, main_family=main_family(view))
    )
    return of_baseline(
        view, panel.main_family, panel.tail_slice, f"the samples of round 0 of {run.name}"
    )


def population_of_traces(path: Path, strategies: str | None, panel: DecisionRule) -> Population:
    """The samples of a trace file.

    Raises:
        TraceError: the file is wrong.
    """
    view = read_traces([path], strategies).views[0]
    return of_baseline(
        view, panel.main_family or main_family(view), panel.tail_slice, f"the samples of {path}"
    )


def plan(panel: DecisionRule, design: Design, population: Population | None) -> dict[str, Any]:
    """The power of every guarded quantity, for `plan_text` or JSON.

    Population None: a typical model.
    """
    drawn_from = population or typical()
    if design.num_others and drawn_from.others is None:
        design = dataclasses.replace(design, num_others=0)
    return {
        "design": design,
        "panel": panel,
        "about": drawn_from.about,
        "powers": power(panel, drawn_from, design),
    }


def plan_json(planned: dict[str, Any]) -> dict[str, Any]:
    """As plain JSON: `smallest` is tier -> rounds -> chance -> loss or null."""
    powers = []
    for p in planned["powers"]:
        smallest: dict[str, dict[str, dict[str, float | None]]] = {}
        for (tier, within, chance), loss in p.smallest.items():
            smallest.setdefault(str(tier), {}).setdefault(str(within), {})[f"{chance:g}"] = loss
        known = {
            key: value if value == value else None
            for key, value in dataclasses.asdict(dataclasses.replace(p, smallest={})).items()
        }
        powers.append({**known, "smallest": smallest})
    return {
        "design": dataclasses.asdict(planned["design"]),
        "rule": planned["panel"].to_json(),
        "about": planned["about"],
        "powers": powers,
    }


def plan_text(planned: dict[str, Any]) -> str:
    """The table, how to read it, and what cannot be seen."""
    design, panel, powers = planned["design"], planned["panel"], planned["powers"]
    known = [p for p in powers if not p.why]
    many = f" and {design.num_others:,} of other families" if design.num_others else ""
    out = [
        (
            f"{design.num_problems:,} problems{many}, {design.num_samples} samples of each per"
            f" round and {design.num_baseline} at the baseline, {panel.rounds} rounds planned,"
            f" alpha {panel.alpha:g}. Simulated on {planned['about']}."
        ),
        "",
    ]
    if known:
        out += [markdown([_row(p, panel.rounds) for p in known]), ""]
    chances = " / ".join(f"{100 * c:.0f} %" for c in CHANCES)
    out.append(
        f"A cell: the least loss that is noticed with a chance of {chances}, in the first round or"
        " within so many rounds that have it."
    )
    return "\n".join([*out, *unseen(powers, panel.rounds)])


def unseen(powers: Sequence[Power], num_rounds: int) -> list[str]:
    """What cannot be detected, in plain sentences."""
    out = ["What cannot be seen:"]
    out += [f"* {p.name}: not guarded at all: {p.why}." for p in powers if p.why]
    for p in (p for p in powers if not p.why):
        least = {within: p.smallest[Tier.HALT, within, CHANCES[0]] for within in WITHIN}
        if least[WITHIN[-1]] is None:
            out.append(
                f"* {p.name}: HALT is unlikely to notice even its complete loss within"
                f" {min(WITHIN[-1], num_rounds)} rounds."
            )
        elif least[1] is None:
            out.append(
                f"* {p.name}: HALT is unlikely to notice even its complete loss in one round; only"
                " what lasts."
            )
    out.append(
        "* Any loss smaller than these may go on unseen, and one within its tolerance is meant to."
        " More problems help most, then samples."
    )
    return out


def _row(p: Power, num_rounds: int) -> dict[str, str]:
    """A line of the table; no run is longer than planned."""
    row = {
        "quantity": p.name,
        "at the baseline": f"{p.base:.3f}",
        "tolerated": _loss(p.tolerance, p),
    }
    for tier in (Tier.HALT, Tier.WATCH):
        for within in WITHIN:
            found = [_loss(p.smallest[tier, within, chance], p) for chance in CHANCES]
            when = "at once" if within == 1 else f"in {min(within, num_rounds)}"
            row[f"{tier.upper()} {when}"] = DASH if set(found) == {DASH} else " / ".join(found)
    return row


def _loss(value: float | None, p: Power) -> str:
    if value is None:
        return DASH
    return f"{100 * value:.0f} %" if p.relative else f"{value:.3f}"
