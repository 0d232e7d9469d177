"""One self-contained HTML page of one run, or of several side by side.

Model text is untrusted: the template escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ouroloop.loop.errors import UserError
from ouroloop.loop.views import (
    cells,
    figures,
    page_curves,
    page_tables,
    side_by_side,
    steering,
    svg,
)
from ouroloop.loop.views.account import is_of_traces, no_checkpoint, sentences, steps
from ouroloop.loop.views.arms import Arm
from ouroloop.loop.views.arms import arms as arms_of
from ouroloop.loop.views.cells import named_by, strategy_of
from ouroloop.loop.views.chains import turns
from ouroloop.loop.views.endings import is_halted
from ouroloop.loop.views.explain import helped
from ouroloop.loop.views.headlines import approvals, is_scored
from ouroloop.loop.views.measures import (
    BY_KEY,
    MEASURES,
    WAYS_NAMES,
    best_by,
    common_strategies,
    meaning_of,
    rejections,
    reliability,
    title_of,
    ways_shares,
)
from ouroloop.loop.views.notes import notes
from ouroloop.loop.views.progress import round_cells
from ouroloop.loop.views.reader import Json, RoundData, RunData, read_run
from ouroloop.loop.views.statistics import DASH
from ouroloop.loop.views.terms import TERMS

# More chains than these nobody reads; the rest are in the run's samples.jsonl.
TRACES_SHOWN = 6
# The sections that a reader may want to go to, by their anchors. A page has those that it has
# something for.
CONTENTS = {
    "steering": "When and why it was steered",
    "rounds": "Over the rounds",
    "responses": "What nobody scored",
    "strategies": "Strategies in use",
    "ways": "Ways per problem",
    "sides": "The same problem, round by round",
    "calibration": "Does it know when it is right?",
    "families": "By family of problems",
    "decisions": "Decisions",
    "table": "All rounds",
    "rejected": "Why samples were rejected",
    "traces": "Sample traces",
    "loss": "Training loss",
    "readings": "Every reading",
    "glossary": "What the numbers mean",
}
SIGNS = (
    "Signs above a round say what the guard did after it: \u25b2 re-inject, \u25c0 roll back,"
    " \u25a0 halt; hollow: noted and not carried out."
)
# The numbers that the page opens with, as far as they are defined: of a run that nobody scores the
# last ones, after what the frozen judge approves of.
TILES = {
    "pass@1": "right answers",
    "dcp": "right in two ways",
    "ways": "solved in two ways or more",
    "apart": "answers apart",
    "trace_entropy": "trace entropy",
    "text_entropy": "entropy on real text",
    "text_nll": "NLL on real text",
}
MOST_TILES = 4
WAYS = dict(zip(WAYS_NAMES, figures.WAYS, strict=True))


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page of these runs to `out` and return it.

    Raises:
        RunStateError: a path is not a run directory.
        UserError: no run was given.
    """
    if not runs:
        raise UserError("report: no run was given. Give at least one folder, e.g. runs/<name>.")
    return write_page([read_run(path) for path in runs], out)


def write_page(runs: Sequence[RunData], out: Path) -> Path:
    """Write the page of these runs, read already, to `out` and return it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = lambda figure_alt: Markup(svg.inline(*figure_alt))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(environment.get_template("report.html").render(_page(runs)), encoding="utf-8")
    return out


def _page(runs: Sequence[RunData]) -> Json:
    groups = arms_of(runs)
    names = [group.name for group in groups]
    # Where only one run can be shown it is an arm's first.
    arms = {group.name: group.first for group in groups}
    # One order of strategies for the whole page, so that a colour means the same in every arm.
    rounds = [round for run in arms.values() for round in run.rounds]
    strategies = common_strategies(rounds, len(figures.BANDS))
    page = {
        "arms": [_arm(group, strategies) for group in groups],
        "curves": list(page_curves.curves(groups)),
        "families": list(page_curves.families(groups)),
        "responses": list(page_curves.responses(groups)),
    }
    absent = _absent(page)
    unwanted = {*absent, *(() if page["responses"] else ("responses",))}
    return {
        **page,
        "title": " and ".join(names),
        "of_traces": all(is_of_traces(run) for run in runs),
        "has_rounds": bool(rounds),
        "has_judge": page_curves.has_judge(runs),
        "contents": {k: v for k, v in CONTENTS.items() if k not in unwanted},
        "undefined": [
            *page_curves.undefined(groups),
            *(f"{CONTENTS[k]}: {why}" for k, why in absent.items()),
        ],
        "signs": SIGNS,
        "colours": figures.legend_colours(names, figures.ARMS),
        "ways_colours": {name: svg.on_page(colour) for name, colour in WAYS.items()},
        "strategy_colours": figures.legend_colours(strategies, figures.BANDS),
        "glossary": [*((title_of(m, runs[0]), meaning_of(m, runs[0])) for m in MEASURES), *TERMS],
    }


def _absent(page: Json) -> dict[str, str]:
    """Sections that the page has nothing for -> why."""
    names = ("areas", "ways", "reliable", "loss")
    drawn = {name: any(arm[name] for arm in page["arms"]) for name in names}
    has_pool = any(arm["rejections"]["rounds"] for arm in page["arms"])
    reasons = {
        "strategies": "" if drawn["areas"] else "no strategy is common, or no sample has one",
        "ways": "" if drawn["ways"] else "no right sample has a strategy",
        "calibration": "" if drawn["reliable"] else "no answers whose agreement could be scored",
        "families": "" if page["families"] else "no probe sample was scored",
        "rejected": "" if has_pool else "no sample for training is known",
        "traces": "" if has_pool else "no sample for training is known",
        "loss": "" if drawn["loss"] else "no round was trained here",
    }
    return {name: why for name, why in reasons.items() if why}


def _evidence(name: str, run: RunData) -> Iterator[Json]:
    for found in steering.evidence(run):
        drawn = figures.evidence(found.lines, found.limits, found.marks, found.colours)
        yield {
            "tier": found.tier.upper(),
            "colours": {name: svg.on_page(colour) for name, colour in found.colours.items()},
            "picture": (drawn, f"evidence of {found.tier} of {name} over the rounds"),
        }


def _arm(group: Arm, strategies: Sequence[str]) -> Json:
    name, run = group.name, group.first
    model = str(run.recipe.get("model", ""))
    first = last = None
    if run.rounds:
        first, last = run.rounds[0], run.rounds[-1]
    best = run.round(run.best_round)
    chosen = [r for r in dict.fromkeys((first, best, last)) if r is not None]
    return {
        "name": name,
        "kind": _kind(run),
        "tag": _tag(run),
        "seeds": [f"{run.path}, {_tag(run) or run.state}" for run in group.runs],
        "path": str(run.path),
        "account": sentences(run),
        "evidence": list(_evidence(name, run)),
        "side_by_side": side_by_side.rows(run),
        "tiles": _tiles(run, first, best, last),
        "rows": _rows(run),
        "notes": notes(run),
        **_pictures(name, run, strategies, {"start": first, "best": best, "last": last}),
        "decisions": [{**step._asdict(), "helped": helped(run, step)} for step in steps(run)],
        "rejections": page_tables.rejected(run),
        "readings": page_tables.readings(chosen),
        "traces": _traces(run),
        "model": model,
        "checkpoint": run.place(run.best_round) if model else "",
        "checkpoint_round": run.best_round,
        "checkpoint_why": best_by(best) if best else "",
        "no_checkpoint": no_checkpoint(run),
        "fingerprint": str(run.env.get("fingerprint", ""))[:12],
    }


def _kind(run: RunData) -> str:
    if is_of_traces(run):
        return "judged from samples"
    return "guarded" if run.guarded else "unguarded"


def _rows(run: RunData) -> list[dict[str, str]]:
    """The table of all rounds, without the columns that no round has."""
    rows = [round_cells(run, round) for round in run.rounds]
    known = {head for row in rows for head, cell in row.items() if cell != DASH}
    return [{head: cell for head, cell in row.items() if head in known} for row in rows]


def _tag(run: RunData) -> str:
    """How the run ended, where it did not end as planned; empty otherwise."""
    if is_halted(run):
        return "halted"
    return "" if run.state == "finished" else run.state


def _pictures(
    name: str, run: RunData, strategies: Sequence[str], chosen: Mapping[str, RoundData | None]
) -> Json:
    """The arm's own figures, each with its description; None where there is nothing to draw."""
    areas = ways = reliable = loss = None
    marks = steering.marks(run)
    if found := {r.number: shares for r in run.rounds if (shares := ways_shares(r))}:
        ways = (figures.areas(found, WAYS, marks=marks), f"ways per problem of {name}")
    if run.rounds and strategies:
        areas = (figures.strategy_areas(run, strategies, marks=marks), f"strategy shares of {name}")
    # A round that is both the start and the best is drawn once, by its first name.
    drawn: dict[int, tuple[str, RoundData]] = {}
    for label, round in chosen.items():
        if round is not None and reliability(round):
            drawn.setdefault(round.number, (f"round {round.number} ({label})", round))
    if drawn:
        diagram = figures.reliability_diagram(list(drawn.values()))
        reliable = (diagram, f"reliability of {name}")
    if any(round.train.get("loss") for round in run.rounds):
        loss = (figures.training_loss(run, marks), f"training loss of {name}")
    keys = [label for label, _ in drawn.values()]
    return {
        "areas": areas,
        "ways": ways,
        "reliable": reliable,
        "reliability_keys": figures.legend_colours(keys, figures.FROM_GREY),
        "loss": loss,
    }


def _tiles(
    run: RunData, first: RoundData | None, best: RoundData | None, last: RoundData | None
) -> list[tuple[str, str, str]]:
    if first is None or last is None:
        return []
    tiles = [("best round", "none" if best is None else str(best.number), f"of {last.number}")]
    labels = {BY_KEY[key]: label for key, label in TILES.items()}
    if not is_scored(run):
        labels = {m: m.title.lower() for m in approvals(run)} | labels
    for measure, label in labels.items():
        # Accuracy at its best, diversity at the end.
        end = best or last if measure.key == "pass@1" else last
        values = measure.read(first), measure.read(end)
        if not all(value.defined for value in values):
            continue
        before, after = (measure.text(value, interval=False) for value in values)
        change = f"{before.removesuffix(' %')} → {after}"
        tiles.append((label, change, f"round {first.number} → {end.number}"))
    return tiles[:MOST_TILES]


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
        cells.records_of(round.verdicts),
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
    texts = [("final", str(verdict["text"]))]
    if chain:
        texts = [(turn.kind, turn.text) for turn in turns(chain)]
    return {
        "question": str(verdict.get("question") or verdict["problem_id"]),
        "gold": verdict.get("gold"),
        "answer": verdict.get("answer"),
        "kept": bool(verdict["kept"]),
        "reasons": [str(reason) for reason in verdict["reasons"]],
        "strategy": strategy_of(verdict),
        "named_by": named_by(verdict),
        "turns": texts,
    }
