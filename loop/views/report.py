"""One self-contained HTML page of one run, or of several side by side.

Model text is untrusted: the template escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ouroloop.loop.errors import UserError
from ouroloop.loop.views import figures, responses
from ouroloop.loop.views.account import sentences, steps
from ouroloop.loop.views.measures import (
    BY_KEY,
    MEASURES,
    Measure,
    Value,
    common_strategies,
    families,
    labels,
    meaning_of,
    rejections,
    reliability,
    title_of,
)
from ouroloop.loop.views.progress import notes, round_cells
from ouroloop.loop.views.reader import Json, RoundData, RunData, read_run
from ouroloop.loop.views.terms import TERMS
from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import Estimand

# More chains than these nobody reads; the rest are in the run's samples.jsonl.
TRACES_SHOWN = 6


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page of these runs to `out` and return it.

    Raises:
        RunStateError: a path is not a run directory.
        UserError: no run was given.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    if not runs:
        raise UserError("report: no run was given. Give at least one folder, e.g. runs/<name>.")
    data = [read_run(path) for path in runs]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = lambda figure_alt: Markup(figures.svg(*figure_alt))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(environment.get_template("report.html").render(_page(data)), encoding="utf-8")
    return out


def _page(runs: Sequence[RunData]) -> Json:
    names = labels(runs)
    arms = dict(zip(names, runs, strict=True))
    # One order of strategies for the whole page, so that a colour means the same in every arm.
    rounds = [round for run in runs for round in run.rounds]
    strategies = common_strategies(rounds, len(figures.BANDS))
    return {
        "title": " and ".join(names),
        "arms": [_arm(name, run, strategies) for name, run in arms.items()],
        "colours": figures.legend_colours(names, figures.ARMS),
        "strategy_colours": figures.legend_colours(strategies, figures.BANDS),
        "curves": list(_curves(arms)),
        "families": list(_families(arms)),
        "responses": list(_responses(arms)),
        "glossary": [*((title_of(m, runs[0]), meaning_of(m, runs[0])) for m in MEASURES), *TERMS],
    }


def _curves(arms: dict[str, RunData]) -> Iterator[Json]:
    for measure in MEASURES:
        lines: dict[str, list[tuple[int, Value]]] = {}
        for name, run in arms.items():
            lines[name] = [(round.number, measure.read(round)) for round in run.rounds]
        first = next(iter(arms.values()))
        title, meaning = title_of(measure, first), meaning_of(measure, first)
        curve: Json = {"title": title, "meaning": meaning, "picture": None}
        values = [value for points in lines.values() for _, value in points]
        if any(value.defined for value in values):
            # Over-confidence is the one measure that may be negative.
            floor = None if measure.key == "overconfidence" else 0.0
            drawn = figures.curves(lines, measure.unit, floor)
            curve["picture"] = (drawn, f"{title} over the rounds")
        else:
            reasons = dict.fromkeys(measure.text(value) for value in values)
            curve["why"] = "; ".join(reasons) or "undefined: no round is finished"
        yield curve


def _families(arms: dict[str, RunData]) -> Iterator[Json]:
    for family in families(list(arms.values())):
        score = Measure(family, Estimand("accuracy/pass@1", family))
        lines = {n: [(r.number, score.read(r)) for r in run.rounds] for n, run in arms.items()}
        sizes = (r.families.get(family, 0) for run in arms.values() for r in run.rounds)
        problems = max(sizes, default=0)
        yield {
            "title": family,
            "meaning": f"{problems} problems",
            "picture": (figures.curves(lines, "share", 0.0), score.title),
        }


def _responses(arms: dict[str, RunData]) -> Iterator[Json]:
    for line in responses.lines(arms):
        picture = (figures.curves(line.points, "share", 0.0), f"{line.title} over the rounds")
        yield {"title": line.title, "meaning": line.meaning, "picture": picture}


def _arm(name: str, run: RunData, strategies: Sequence[str]) -> Json:
    first = last = None
    if run.rounds:
        first, last = run.rounds[0], run.rounds[-1]
    best = run.round(run.best_round)
    chosen = [r for r in dict.fromkeys((first, best, last)) if r is not None]
    return {
        "name": name,
        "guarded": run.guarded,
        "state": run.state,
        "path": str(run.path),
        "account": sentences(run),
        "tiles": _tiles(run, first, best, last),
        "rows": [round_cells(run, r) for r in run.rounds],
        "notes": notes(run),
        **_pictures(name, run, strategies, {"start": first, "best": best, "last": last}),
        "decisions": [step._asdict() for step in steps(run)],
        "rejections": _rejections(run),
        "readings": _readings(chosen),
        "traces": _traces(run),
        "model": run.recipe.get("model", ""),
        "checkpoint": run.place(run.best_round),
        "fingerprint": str(run.env.get("fingerprint", ""))[:12],
    }


def _pictures(
    name: str, run: RunData, strategies: Sequence[str], chosen: Mapping[str, RoundData | None]
) -> Json:
    """The arm's own figures, each with its description; None where there is nothing to draw."""
    areas = reliable = loss = None
    if run.rounds and strategies:
        areas = (figures.strategy_areas(run, strategies), f"strategy shares of {name}")
    # A round that is both the start and the best is drawn once, by its first name.
    drawn: dict[int, tuple[str, RoundData]] = {}
    for label, round in chosen.items():
        if round is not None and reliability(round):
            drawn.setdefault(round.number, (f"round {round.number} ({label})", round))
    if drawn:
        diagram = figures.reliability_diagram(list(drawn.values()))
        reliable = (diagram, f"reliability of {name}")
    if any(round.train.get("loss") for round in run.rounds):
        loss = (figures.training_loss(run), f"training loss of {name}")
    keys = [label for label, _ in drawn.values()]
    return {
        "areas": areas,
        "reliability": reliable,
        "reliability_keys": figures.legend_colours(keys, figures.FROM_GREY),
        "loss": loss,
    }


def _tiles(
    run: RunData, first: RoundData | None, best: RoundData | None, last: RoundData | None
) -> list[tuple[str, str, str]]:
    if first is None or last is None:
        return []
    # Three numbers that the page opens with: accuracy at its best, diversity at the end.
    tiles = [("best round", "none" if best is None else str(best.number), f"of {last.number}")]
    for key, end, label in (
        ("pass@1", best or last, "right answers"),
        ("dcp", last, "right in two ways"),
        ("alive", last, "strategies alive"),
    ):
        before, after = _tile_value(key, first), _tile_value(key, end)
        change = f"{before.removesuffix(' %')} → {after}"
        tiles.append((label, change, f"round {first.number} → {end.number}"))
    return tiles


def _tile_value(key: str, round: RoundData) -> str:
    measure = BY_KEY[key]
    value = measure.read(round)
    if not value.defined:
        return "undefined"
    return measure.text(value, interval=False)


def _rejections(run: RunData) -> Json:
    by_round = {r.number: (rejections(r), len(r.verdicts)) for r in run.rounds if len(r.verdicts)}
    # A sample rejected for two reasons counts in both rows.
    totals: dict[str, int] = {}
    for counts, _ in by_round.values():
        for reason, count in counts.items():
            totals[reason] = totals.get(reason, 0) + count
    rows = []
    for reason in sorted(totals, key=lambda reason: -totals[reason]):
        cells = []
        for counts, num in by_round.values():
            count = counts.get(reason, 0)
            cells.append((count, count / num))
        rows.append((reason, cells))
    return {
        "rounds": list(by_round),
        "rows": rows,
        "sampled": [num for _, num in by_round.values()],
    }


def _readings(rounds: Sequence[RoundData]) -> Json:
    names = dict.fromkeys(reading.name for r in rounds for reading in r.readings)
    rows = []
    for name in names:
        found = [round.reading(name) for round in rounds]
        # A reading that failed has no unit; another round's has.
        units = [reading.unit for reading in found if reading is not None and reading.unit]
        unit = units[0] if units else ""
        rows.append((name, unit, [_reading(reading) for reading in found]))
    return {"rounds": [r.number for r in rounds], "rows": rows}


def _reading(reading: Reading | None) -> str:
    """One cell: empty where the round has no such reading, the reason where it is undefined."""
    if reading is None:
        return ""
    if reading.status == "error":
        return f"error: {reading.reason or 'no reason given'}"
    if reading.status != "ok" or math.isnan(reading.value):
        return f"undefined: {reading.reason or 'no reason given'}"
    if math.isnan(reading.low):
        return f"{reading.value:.3g}"
    return f"{reading.value:.3g} [{reading.low:.3g}, {reading.high:.3g}]"


def _traces(run: RunData) -> Json:
    """A few chains of the last round that sampled.

    Kept ones, then one per reason for rejection, revised ones first.
    """
    round = next((r for r in reversed(run.rounds) if len(r.verdicts)), None)
    if round is None:
        return {"round": None, "items": []}
    wanted = _chosen(round)
    chains = {sample["id"]: sample for sample in round.samples() if sample["id"] in wanted}
    items = [trace(row, chains.get(key)) for key, row in wanted.items()]
    return {"round": round.number, "items": items}


def _chosen(round: RoundData) -> dict[str, Json]:
    """Sample id -> verdict of the samples to show."""
    rows = sorted(
        round.verdicts.to_dict("records"),
        key=lambda row: (not row.get("revised"), row["sample_id"]),
    )
    kept = [row for row in rows if row["kept"]]
    rejected = [row for row in rows if not row["kept"]]
    # A dictionary keeps the order, and takes no sample twice.
    chosen = {row["sample_id"]: row for row in (*kept[:1], *kept[-1:])}
    for reason in rejections(round):
        for row in rejected:
            if reason in row["reasons"] and row["sample_id"] not in chosen:
                chosen[row["sample_id"]] = row
                break
    # Then any rejected ones, as long as there is room.
    for row in rejected:
        chosen.setdefault(row["sample_id"], row)
    return dict(list(chosen.items())[:TRACES_SHOWN])


def trace(verdict: Json, chain: Json | None) -> Json:
    """One sample as texts: what was asked, every turn of draft, critique and revision, the verdict.

    Without its chain (samples.jsonl was lost) only the final text is there.
    """
    turns = [("final", str(verdict["text"]))]
    if chain:
        turns = [("draft", _text(chain["draft"]))]
        revisions = chain.get("revisions", [])
        for index, critique in enumerate(chain.get("critiques", [])):
            turns.append(("critique", _text(critique)))
            # A critique that finds nothing is followed by no revision.
            if index < len(revisions):
                turns.append(("revision", _text(revisions[index])))
    return {
        "question": str(verdict.get("question") or verdict["problem_id"]),
        "gold": verdict.get("gold"),
        "answer": verdict.get("answer"),
        "kept": bool(verdict["kept"]),
        "reasons": [str(reason) for reason in verdict["reasons"]],
        "strategy": verdict.get("strategy"),
        "turns": turns,
    }


def _text(node: Json) -> str:
    return str((node.get("completion") or node).get("text", "")).strip()
