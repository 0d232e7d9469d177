"""Power analysis: what a probe set of this size can show before anything is run.

The decision rule's power as a table and plain sentences (`ouroloop plan`, `ouroloop monitor
--plan`). The numbers are simulated by `monitors.decision.power`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.folder.sums import round_folder
from ouroloop.loop.traces.tables import read_own
from ouroloop.loop.views.progress import markdown
from ouroloop.loop.views.statistics import DASH
from ouroloop.monitors.decision.blocks import ScoreError
from ouroloop.monitors.decision.free_population import typical_text
from ouroloop.monitors.decision.growth import WITHIN
from ouroloop.monitors.decision.populations import Design, Population, of_baseline, typical
from ouroloop.monitors.decision.power import CHANCES, Power, power
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Table
from ouroloop.monitors.names import Tier
from ouroloop.monitors.traces.reader import TraceReader, main_family

# Samples of a problem in the baseline round, per sample of a later round. The baseline's noise
# enters every later comparison, so it is worth four times the samples once.
BASELINE_SAMPLES = 4


@dataclass(frozen=True)
class PowerAnalysis:
    """The power of every guarded quantity.

    about: the samples that it was simulated on. notes: what else is to be known, in sentences.
    """

    design: Design
    rule: DecisionRule
    about: str
    powers: Sequence[Power]
    notes: tuple[str, ...] = ()


def of_recipe(
    rule: DecisionRule,
    *,
    families: Sequence[str],
    main_family: str,
    num_samples: int,
    num_baseline_samples: int,
    run_path: Path,
    num_free: int = 0,
    gold: bool = True,
    only: Collection[str] | None = None,
    notes: tuple[str, ...] = (),
) -> PowerAnalysis:
    """Power of a recipe's probe set.

    Args:
        rule: The recipe's decision rule.
        families: The family of every problem of the probe set that can be scored.
        main_family: The family that the rule judges first.
        num_samples: Samples per problem and round.
        num_baseline_samples: The same in baseline rounds.
        run_path: The recipe's run; where it has a round 0, its samples are drawn from.
        num_free: Problems that nobody can score.
        gold: `monitors.gold`; False: the guard sees no scores, whoever could give them.
        only: The quantities to simulate; None: all.
        notes: See `PowerAnalysis`.
    """
    # One baseline is simulated: it stands for the first one that is compared with.
    rule = dataclasses.replace(rule, texts_since=0)
    population = _population_of_run(run_path, rule, gold)
    if not gold:
        families, num_free = (), num_free + len(families)
    num_main = sum(family == main_family for family in families)
    num_others = len(families) - num_main
    if population is not None:
        num_others = _size(population.others) or num_others
        num_free = _size(population.free)
    design = Design(num_main, num_samples, num_baseline_samples, num_others, num_free)
    return dataclasses.replace(analyse(rule, design, population, only), notes=notes)


def of_traces(
    rule: DecisionRule,
    num_problems: int,
    num_samples: int,
    paths: Sequence[Path],
    strategies: str | None,
) -> PowerAnalysis:
    """Power of a probe set of so many problems and samples.

    Args:
        rule: The decision rule; an empty main family means the most common one of the file.
        num_problems: Problems of the main family; where the file scores none, of all families.
        num_samples: Samples per problem and round.
        paths: No file, or one whose samples stand for the model, and whose number of samples per
            problem is the baseline's.
        strategies: As `ouroloop monitor --strategies`.

    Raises:
        TraceError: the file is wrong.
        ValueError: an impossible design.
    """
    population, num_others, num_free = None, 0, 0
    baseline = BASELINE_SAMPLES * num_samples
    if paths:
        view = read_own([paths[0]], strategies).views[0]
        # The baseline that there is, not the one that we would advise.
        baseline = int(median(Counter(view.probe.problem).values()))
        about = f"the samples of {paths[0]}, the baseline: {baseline} of a usual problem"
        family = rule.main_family or main_family(view)
        population = of_baseline(view, family, rule.tail_slice, about)
        num_others, num_free = _size(population.others), _size(population.free)
        if max(len(population.main.problems), num_free) < 2:
            raise ValueError(
                f"{paths[0]}: got samples of one problem; expected at least two, to draw a probe"
                f" set of {num_problems} from. Without the file a typical model is planned with."
            )
        if not population.main.problems:
            num_problems, num_free = 0, num_problems
    design = Design(num_problems, num_samples, baseline, num_others, num_free)
    return analyse(rule, design, population)


def analyse(
    rule: DecisionRule,
    design: Design,
    population: Population | None,
    only: Collection[str] | None = None,
) -> PowerAnalysis:
    """Simulate. Population None: a typical model.

    Raises:
        RecipeError: a guarded quantity of somebody's own breaks its contract.
    """
    drawn_from = population or _typical(design)
    if design.num_others and drawn_from.others is None:
        design = dataclasses.replace(design, num_others=0)
    try:
        found = power(rule, drawn_from, design, only)
    except ScoreError as error:
        raise RecipeError(f"monitors.guarded: {error}") from error
    return PowerAnalysis(design, rule, drawn_from.about, found)


def _size(rows: Table | None) -> int:
    return 0 if rows is None else len(rows.problems)


def _typical(design: Design) -> Population:
    """A typical model of scored problems, of text that nobody scores, or of both."""
    if not design.num_free:
        return typical()
    text = typical_text()
    if not design.num_problems:
        return text
    scored = typical()
    about = f"{scored.about}; and {text.about}"
    return dataclasses.replace(scored, free=text.free, texts=text.texts, about=about)


def _population_of_run(run_path: Path, rule: DecisionRule, gold: bool) -> Population | None:
    """The samples of a run's round 0 as the guard sees them, if it is there."""
    file = round_folder(run_path, 0) / "probe.parquet"
    if not file.is_file():
        return None
    rows = [row for row in pq.read_table(file).to_pylist() if row["kind"] == "sample"]
    if not gold:
        rows = [{**row, "correct": None, "valid": None} for row in rows]
    view = TraceReader().read((f"{file}:{i}", row) for i, row in enumerate(rows))
    family = rule.main_family or main_family(view)
    return of_baseline(view, family, rule.tail_slice, f"the samples of round 0 of {run_path.name}")


def at_once(powers: Sequence[Power]) -> float | None:
    """The least loss of the only quantity that HALT notices in its first round, if any."""
    return powers[0].smallest.get((Tier.HALT, WITHIN[0], CHANCES[0])) if powers else None


def to_json(analysis: PowerAnalysis) -> dict[str, Any]:
    """As plain JSON: `smallest` is tier -> rounds -> chance -> loss or null."""
    return {
        "design": dataclasses.asdict(analysis.design),
        "rule": analysis.rule.to_json(),
        "about": analysis.about,
        "powers": [_power_json(p) for p in analysis.powers],
    }


def _power_json(p: Power) -> dict[str, Any]:
    smallest: dict[str, dict[str, dict[str, float | None]]] = {}
    for (tier, within, chance), loss in p.smallest.items():
        smallest.setdefault(tier, {}).setdefault(str(within), {})[f"{chance:g}"] = loss
    # The keys of `smallest` are tuples, which JSON has not.
    fields = dataclasses.asdict(dataclasses.replace(p, smallest={}))
    # NaN is not JSON either: null.
    known = {key: value if value == value else None for key, value in fields.items()}
    return {**known, "smallest": smallest}


def text(analysis: PowerAnalysis) -> str:
    """The table, how to read it, and what cannot be seen."""
    design, rule = analysis.design, analysis.rule
    kinds = [
        (design.num_problems, "problems"),
        (design.num_others, "of other families"),
        (design.num_free, "problems that nobody scores"),
    ]
    sizes = " and ".join(f"{num:,} {kind}" for num, kind in kinds if num)
    out = [
        (
            f"{sizes}, {design.num_samples} samples of each per"
            f" round and {design.num_baseline} in the baseline round, {rule.rounds} rounds planned,"
            f" alpha {rule.alpha:g}. Simulated on {analysis.about}."
        ),
        "",
    ]
    known = [p for p in analysis.powers if not p.why]
    if known:
        out += [markdown([_row(p, rule.rounds) for p in known]), ""]
    chances = " / ".join(f"{100 * c:.0f} %" for c in CHANCES)
    out.append(
        f"A cell: the least loss that is noticed with a chance of {chances}, in the first round or"
        " within so many rounds that have it."
    )
    return "\n".join([*out, *unseen(analysis.powers, rule.rounds), *analysis.notes])


def unseen(powers: Sequence[Power], num_rounds: int) -> list[str]:
    """What cannot be detected, in plain sentences."""
    out = ["What cannot be seen:"]
    out += [f"* {p.name}: not guarded at all: {p.why}." for p in powers if p.why]
    for p in powers:
        if p.why:
            continue
        # None: not even a complete loss reaches the lowest of the chances.
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
        "* Any loss smaller than these may stay unseen, and one within its tolerance should."
        " More problems help most, then samples."
    )
    return out


def _row(p: Power, num_rounds: int) -> dict[str, str]:
    """A line of the table; no run is longer than planned."""
    row = {"quantity": p.name, "at baseline": f"{p.base:.3f}", "tolerated": _loss(p.tolerance, p)}
    for tier in (Tier.HALT, Tier.WATCH):
        for within in WITHIN:
            found = [_loss(p.smallest[tier, within, chance], p) for chance in CHANCES]
            when = f"in {min(within, num_rounds)}"
            if within == 1:
                when = "at once"
            cell = " / ".join(found)
            if set(found) == {DASH}:
                cell = DASH
            row[f"{tier.upper()} {when}"] = cell
    return row


def _loss(value: float | None, p: Power) -> str:
    if value is None:
        return DASH
    if p.relative:
        return f"{100 * value:.0f} %"
    return f"{value:.3f}"
