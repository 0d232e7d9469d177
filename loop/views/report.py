"""One self-contained HTML page of one run, or of several side by side.

Model text is untrusted: the template escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import UserError
from ouroloop.loop.views import figures
from ouroloop.loop.views.account import sentences, steps
from ouroloop.loop.views.measures import (
    BY_KEY,
    MEASURES,
    Measure,
    families,
    labels,
    meaning_of,
    rejections,
    reliability,
    strategy_shares,
    title_of,
)
from ouroloop.loop.views.progress import notes, round_cells
from ouroloop.loop.views.reader import Json, RoundData, RunData, read_run
from ouroloop.monitors.estimators.estimand import Estimand

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
    strategies = list(
        dict.fromkeys(name for run in runs for r in run.rounds for name in strategy_shares(r))
    )
    return {
        "title": " and ".join(names),
        "arms": [_arm(name, run, strategies) for name, run in arms.items()],
        "colours": figures.legend_colours(names, figures.ARMS),
        "strategy_colours": figures.legend_colours(strategies, figures.BANDS),
        "curves": list(_curves(arms)),
        "families": list(_families(arms)),
        "glossary": [(title_of(m, runs[0]), meaning_of(m, runs[0])) for m in MEASURES]
        + list(TERMS),
    }


def _curves(arms: dict[str, RunData]) -> Iterator[Json]:
    for measure in MEASURES:
        lines = {
            name: [(r.number, measure.read(r)) for r in run.rounds] for name, run in arms.items()
        }
        first = next(iter(arms.values()))
        title, meaning = title_of(measure, first), meaning_of(measure, first)
        if any(value.defined for points in lines.values() for _, value in points):
            floor = None if measure.key == "overconfidence" else 0.0
            yield {
                "title": title,
                "meaning": meaning,
                "picture": (figures.curves(lines, measure.unit, floor), f"{title} over the rounds"),
            }
        else:
            reasons = dict.fromkeys(
                measure.text(value) for points in lines.values() for _, value in points
            )
            yield {
                "title": title,
                "meaning": meaning,
                "picture": None,
                "why": "; ".join(reasons) or "undefined: no round is finished",
            }


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


def _arm(name: str, run: RunData, strategies: Sequence[str]) -> Json:
    best, first, last = (
        run.round(run.best_round),
        run.rounds[0] if run.rounds else None,
        run.rounds[-1] if run.rounds else None,
    )
    drawn = [
        (label, r)
        for label, r in (("start", first), ("best", best), ("last", last))
        if r is not None and reliability(r)
    ]
    unique = {r.number: (f"round {r.number} ({label})", r) for label, r in reversed(drawn)}
    return {
        "name": name,
        "guarded": run.guarded,
        "state": run.state,
        "path": str(run.path),
        "account": sentences(run),
        "tiles": _tiles(run, first, best, last),
        "rows": [round_cells(run, r) for r in run.rounds],
        "notes": notes(run),
        "areas": (
            (figures.strategy_areas(run, strategies), f"strategy shares of {name}")
            if run.rounds and strategies
            else None
        ),
        "reliability": (
            (figures.reliability_diagram(list(reversed(unique.values()))), f"reliability of {name}")
            if unique
            else None
        ),
        "reliability_keys": figures.legend_colours(
            [label for label, _ in reversed(unique.values())], ("#8d99a6", *figures.ARMS)
        ),
        "loss": (
            (figures.training_loss(run), f"training loss of {name}")
            if any(r.train.get("loss") for r in run.rounds)
            else None
        ),
        "decisions": [step._asdict() for step in steps(run)],
        "rejections": _rejections(run),
        "readings": _readings([r for r in dict.fromkeys((first, best, last)) if r is not None]),
        "traces": _traces(run),
        "model": run.recipe.get("model", ""),
        "checkpoint": str(run.checkpoint(run.best_round) or ""),
        "fingerprint": str(run.env.get("fingerprint", ""))[:12],
    }


def _tiles(
    run: RunData, first: RoundData | None, best: RoundData | None, last: RoundData | None
) -> list[tuple[str, str, str]]:
    if first is None or last is None:
        return []
    tiles = [("best round", "none" if best is None else str(best.number), f"of {last.number}")]
    for key, end, label in (
        ("pass@1", best or last, "right answers"),
        ("dcp", last, "right in two ways"),
        ("alive", last, "strategies alive"),
    ):
        shown = [
            m.text(v, interval=False) if (v := m.read(r)).defined else "undefined"
            for m in (BY_KEY[key],)
            for r in (first, end)
        ]
        tiles.append(
            (
                label,
                f"{shown[0].removesuffix(' %')} → {shown[1]}",
                f"round {first.number} → {end.number}",
            )
        )
    return tiles


def _rejections(run: RunData) -> Json:
    by_round = {r.number: (rejections(r), len(r.verdicts)) for r in run.rounds if len(r.verdicts)}
    totals: dict[str, int] = {}
    for counts, _ in by_round.values():
        for reason, count in counts.items():
            totals[reason] = totals.get(reason, 0) + count
    rows = []
    for reason in sorted(totals, key=lambda r: -totals[r]):
        rows.append(
            (
                reason,
                [
                    (counts.get(reason, 0), counts.get(reason, 0) / num)
                    for counts, num in by_round.values()
                ],
            )
        )
    return {
        "rounds": list(by_round),
        "rows": rows,
        "sampled": [num for _, num in by_round.values()],
    }


def _readings(rounds: Sequence[RoundData]) -> Json:
    names = dict.fromkeys(reading.name for r in rounds for reading in r.readings)
    rows = []
    for name in names:
        found = [r.reading(name) for r in rounds]
        unit = next((reading.unit for reading in found if reading is not None and reading.unit), "")
        rows.append(
            (name, unit, ["" if reading is None else _reading(reading) for reading in found])
        )
    return {"rounds": [r.number for r in rounds], "rows": rows}


def _reading(reading: Any) -> str:
    if reading.status != "ok" or reading.value != reading.value:
        return (
            f"{'error' if reading.status == 'error' else 'undefined'}:"
            f" {reading.reason or 'no reason given'}"
        )
    interval = f" [{reading.low:.3g}, {reading.high:.3g}]" if reading.low == reading.low else ""
    return f"{reading.value:.3g}{interval}"


def _traces(run: RunData) -> Json:
    """A few chains of the last round that sampled.

    Kept ones, then one per reason for rejection, revised ones first.
    """
    round = next((r for r in reversed(run.rounds) if len(r.verdicts)), None)
    if round is None:
        return {"round": None, "items": []}
    rows = sorted(
        round.verdicts.to_dict("records"),
        key=lambda row: (not row.get("revised"), row["sample_id"]),
    )
    kept = [row for row in rows if row["kept"]]
    chosen = [*kept[:1], *kept[-1:]][: len(kept)]
    for reason in rejections(round):
        chosen += [
            row
            for row in rows
            if not row["kept"] and reason in row["reasons"] and row not in chosen
        ][:1]
    chosen += [
        row
        for row in rows
        if not row["kept"] and row["sample_id"] not in {c["sample_id"] for c in chosen}
    ]
    wanted = {row["sample_id"]: row for row in chosen[:TRACES_SHOWN]}
    chains = {sample["id"]: sample for sample in round.samples() if sample["id"] in wanted}
    return {
        "round": round.number,
        "items": [trace(row, chains.get(key)) for key, row in wanted.items()],
    }


def trace(verdict: Json, chain: Json | None) -> Json:
    """One sample as texts: what was asked, every turn of draft, critique and revision.

    And the verdict.
    """
    turns = [("draft", _text(chain["draft"]))] if chain else [("final", str(verdict["text"]))]
    critiques, revisions = (chain or {}).get("critiques", []), (chain or {}).get("revisions", [])
    for index, critique in enumerate(critiques):
        turns.append(("critique", _text(critique)))
        turns += [("revision", _text(revisions[index]))] if index < len(revisions) else []
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


TERMS = (
    (
        "Round 0",
        "The starting model, measured before any training: every later round is held against it.",
    ),
    ("Held-out", "Problems that training never sees."),
    (
        "[low, high]",
        "95 % interval from within the round; problems, not samples, are the units drawn.",
    ),
    (
        "Undefined",
        "The number could not be computed; the reason stands beside it. It never means zero.",
    ),
    ("Kept", "The sample passed every gate, so the model may be trained on it."),
    (
        "Reliability",
        (
            "If 70 % of samples agree on an answer, an honest model is right in 70 % of such cases:"
            " its dots lie on the dashed line."
        ),
    ),
    (
        "Decision",
        (
            "continue; reinject: mix demonstrations and rare strategies back in; rollback: return"
            " to the best model; halt: stop."
        ),
    ),
    (
        "Drift, sharpening, shortcut takeover, tail narrowing",
        (
            "Kinds of collapse: errors pile up; one way of solving crowds out the others; one cheap"
            " answer spreads over problems; only easy problems stay solved."
        ),
    ),
    (
        "Guarded, unguarded",
        (
            "In a guarded run decisions are carried out; in an unguarded one they are only written"
            " down."
        ),
    ),
)
