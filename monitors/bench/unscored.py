"""Text that nobody scores under the rule: false alarms at the boundary, and canned responses.

Rounds are drawn with replacement from a simulated population (`free_population.py`), so that every
mean of the population is the truth. In a boundary world what is named has truly lost exactly what a
tier tolerates, in all rounds; in a collapse a share of the samples is one canned text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from ouroloop.monitors.base import Floats
from ouroloop.monitors.bench import boundary, markdown
from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.bench.cells import Cell, Cells, read
from ouroloop.monitors.decision.blocks import VOTE_SIZE
from ouroloop.monitors.decision.free_population import CRITERIA, typical_text
from ouroloop.monitors.decision.guarded import FREE, GuardedQuantity, QuantityId
from ouroloop.monitors.decision.harms import harmed
from ouroloop.monitors.decision.populations import Design, Population, drawn
from ouroloop.monitors.decision.responses import APPROVED, Grid
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Pair, Tables
from ouroloop.monitors.estimators.stats import clopper_pearson
from ouroloop.monitors.names import Tier

NUM_ROUNDS = 20
RULE = DecisionRule("main", rounds=NUM_ROUNDS)
SIZES = {"100x8": (100, 8, 32), "200x16": (200, 16, 64)}
"""Name -> problems, samples of each, samples of each at the baseline."""
SCORED_SIZE = "120x8"
SHARES = (0.02, 0.05, 0.10, 0.20, 0.50)
DECLARED: Mapping[str, GuardedQuantity] = {str(q.id): q for q in FREE}
# A canned text is written without hesitation; else it is the least conspicuous one: of usual
# length, not cut, and approved of as often as any other.
CANNED_OPEN = 0.01
# So much of a population is drawn from; its own size is what a bench can simulate at once.
MANY = 128

World = Callable[[Tables, np.random.Generator, float], Tables]
"""(an unharmed round, generator, share of the tolerance that is lost) -> the round."""


@lru_cache(maxsize=2)
def population(num_problems: int) -> Population:
    """The model that all runs of a size start from."""
    return typical_text(num_problems, MANY)


# ---- worlds ---------------------------------------------------------------------------------


def unchanged(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """The model of the baseline."""
    return tables


def columns(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """Entropy, answers, lengths, approvals and verdicts have all lost what is tolerated."""
    names = (
        QuantityId.OPEN,
        QuantityId.ANSWERED,
        QuantityId.LENGTH,
        QuantityId.JUDGED,
        *(f"{APPROVED}/{name}" for name in CRITERIA),
    )
    for name in names:
        tables = _hurt(tables, rng, name, _level(tables, name, share))
    if tables.texts is None:
        return tables
    # Real texts are no samples: each loses exactly what is tolerated.
    lost = share * DECLARED[QuantityId.TEXTS_OPEN].default
    grid_PK = (1 - lost) * tables.texts.now.grids[Grid.OPEN]
    now = replace(tables.texts.now, grids={Grid.OPEN: grid_PK})
    return replace(tables, texts=Pair(tables.texts.baseline, now))


def clusters(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """Prompts fall back on their commonest cluster."""
    return _hurt(tables, rng, QuantityId.CLUSTERS, _cluster_level(_size(tables), share))


def canned(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """One new text, as often as is tolerated."""
    return _hurt(tables, rng, QuantityId.CANNED, share * DECLARED[QuantityId.CANNED].default)


def dying(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """One cluster loses the tolerated part of its samples to another one."""
    level = share * DECLARED[QuantityId.ALIVE_CLUSTERS].default
    return _hurt(tables, rng, QuantityId.ALIVE_CLUSTERS, level)


WORLDS: Mapping[str, World] = {
    "unchanged": unchanged,
    "columns": columns,
    "clusters": clusters,
    "canned": canned,
    "dying": dying,
}


def _size(tables: Tables) -> int:
    return len(tables.free_P)


def _hurt(tables: Tables, rng: np.random.Generator, name: str, level: float) -> Tables:
    quantity = DECLARED[name.partition("/")[0]]
    return harmed(tables, population(_size(tables)), quantity, level, rng, name)


def _level(tables: Tables, name: str, share: float) -> float:
    """The chance of a score of 0 with which the mean of a column loses what is tolerated."""
    declared = DECLARED[name.partition("/")[0]]
    lost = share * declared.default
    if declared.relative:
        return lost
    free = population(_size(tables)).free
    return lost / float(free.grids[name].mean()) if free is not None else 0.0


@lru_cache(maxsize=16)
def _cluster_level(num_problems: int, share: float) -> float:
    """The chance of the commonest cluster with which there are as few clusters as is tolerated.

    Fewer than tolerated of the samples' pairs have come together by then.
    """
    model = population(num_problems)
    if model.free is None:
        return 0.0
    cluster_PK = model.free.grids[Grid.CLUSTER]
    share_PC = np.stack([(cluster_PK == c).mean(axis=1) for c in range(cluster_PK.max() + 1)], 1)
    favourite_PC = np.arange(share_PC.shape[1]) == model.common_cluster_P[:, None]

    def kinds(level: float) -> float:
        mixed_PC: Floats = (1 - level) * share_PC + level * favourite_PC
        return float((1 - (1 - mixed_PC) ** VOTE_SIZE).sum(axis=1).mean())

    wanted = (1 - share * DECLARED[QuantityId.CLUSTERS].default) * kinds(0.0)
    return float(brentq(lambda level: kinds(level) - wanted, 0.0, 1.0))


def collapsed(tables: Tables, rng: np.random.Generator, share: float) -> Tables:
    """This share of the samples is one canned text."""
    pair, model = tables.responses, population(_size(tables))
    if pair is None:
        return tables
    now = pair.now
    hit_PK = rng.random(now.there_PK.shape) < share
    grids = dict(now.grids)
    for grid in (Grid.CLUSTER, Grid.OPENING):
        grids[grid] = np.where(hit_PK, model.new_code(grid), grids[grid])
    grids[Grid.OPEN] = np.where(hit_PK, CANNED_OPEN, grids[Grid.OPEN])
    return replace(tables, responses=Pair(pair.baseline, replace(now, grids=grids)))


# ---- runs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run: the round of each tier's first alarm (0: none), and what drove it."""

    seed: int
    watch: int = 0
    watch_driver: str = ""
    halt: int = 0
    halt_driver: str = ""


def run(size: str, world: World, share: float, seed: int, until: Sequence[Tier]) -> Run:
    """A run of `NUM_ROUNDS` rounds, ended when all tiers of `until` have called."""
    num_problems, num_samples, num_baseline = SIZES[size]
    design = Design(0, num_samples, num_baseline, num_free=num_problems)
    baseline = np.random.default_rng((seed, 0))
    rngs = [np.random.default_rng((seed, 1, r)) for r in range(NUM_ROUNDS)]
    rounds = drawn(population(num_problems), design, baseline, rngs)
    watcher = Watcher(RULE, tiers=until)
    found: dict[str, object] = {}
    for number, tables in enumerate(rounds, start=1):
        harm = np.random.default_rng((seed, 2, number))
        weights = watcher.weigh(world(tables, harm, share))
        for tier in watcher.alarms(weights):
            if tier not in found:
                found |= {
                    str(tier): number,
                    f"{tier}_driver": weights[tier].driver.quantity,
                }
        if all(tier in found for tier in until):
            break
    return Run(seed, **found)  # type: ignore[arg-type]


def at_boundary(size: str, name: str, tier: str, seed: int) -> Run:
    """A world at the boundary of a tier."""
    share = 1.0 if tier == Tier.HALT else RULE.watch_share
    # An unchanged model is the same world for both tiers: one run is weighed by both.
    until = tuple(Tier) if name == "unchanged" else (Tier(tier),)
    return run(size, WORLDS[name], share, seed, until)


def scored(tier: str, seed: int) -> Run:
    """Scored samples: all twelve quantities of V1's simulated model exactly on their tolerance."""
    found = boundary.all_quantities(SCORED_SIZE, seed, tier)
    halt, watch = (found.alarm if tier == each else 0 for each in (Tier.HALT, Tier.WATCH))
    return Run(seed, watch=watch, halt=halt)


def collapse(size: str, share: float, seed: int) -> Run:
    """A collapse to one canned text."""
    return run(size, collapsed, share, seed, (Tier.WATCH, Tier.HALT))


# ---- files and tables -----------------------------------------------------------------------

FILE, PAGE = "unscored.csv", "unscored.md"
WITHIN = (1, 2, 5, 20)
"""Rounds within which a call is counted."""
ASKED = ("collapse-0.1", "halt-unchanged")
"""Cells that the goals are about."""


def cells(out: Path, runs: int, sizes: Sequence[str] = tuple(SIZES)) -> Cells:
    """A cell for each size and share of canned text, and for each world and tier.

    runs: of the cells that the goals are about, a tenth of the samples canned and an unchanged
        model; the others get half as many.
    """
    grid: Cells = {}

    def add(name: str, function: Callable[..., Run], *arguments: object) -> None:
        num = runs if name.endswith(ASKED) else (runs + 1) // 2
        grid[Cell(out / FILE, name)] = (function, [(*arguments, seed) for seed in range(num)])

    for size in sizes:
        for share in SHARES:
            add(f"{size}/collapse-{share:g}", collapse, size, share)
        for tier, _, name in lines_of([size]):
            add(cell_of(tier, size, name), at_boundary, size, name, str(tier))
    for tier in (Tier.HALT, Tier.WATCH):
        add(cell_of(tier, SCORED_SIZE, "scored"), scored, str(tier))
    # What was asked for comes first.
    return dict(sorted(grid.items(), key=lambda item: not item[0].name.endswith(ASKED)))


def lines_of(sizes: Sequence[str]) -> list[tuple[Tier, str, str]]:
    """Every tier, size and world of the boundary table."""
    return [(t, size, name) for t in (Tier.HALT, Tier.WATCH) for size in sizes for name in WORLDS]


def cell_of(tier: Tier, size: str, name: str) -> str:
    """The cell of a line of the boundary table."""
    # An unchanged model is the same world for both tiers.
    return f"{size}/{Tier.HALT if name == 'unchanged' else tier}-{name}"


def rows_of(out: Path, name: str) -> list[dict[str, str]]:
    """The runs of a cell; none where it has not been worked out."""
    try:
        return read(Cell(out / FILE, name))
    except FileNotFoundError:
        return []


def boundary_lines(out: Path) -> list[list[object]]:
    """Size, world, tier, runs, alarms, share, upper bound, promised."""
    alphas = {Tier.HALT: RULE.alpha, Tier.WATCH: RULE.watch_alpha}
    lines: list[list[object]] = []
    listed = [*lines_of(tuple(SIZES)), *((t, SCORED_SIZE, "scored") for t in alphas)]
    for tier, size, name in listed:
        found = rows_of(out, cell_of(tier, size, name))
        if not found:
            continue
        hits, num = sum(row[tier] != "0" for row in found), len(found)
        about = (WORLDS.get(name, scored).__doc__ or "").strip().rstrip(".")
        shares = (hits / num, clopper_pearson(hits, num)[1], alphas[tier])
        percents = [f"{100 * share:.1f} %" for share in shares]
        lines.append([tier.upper(), size, about, num, hits, *percents])
    return lines


def collapse_lines(out: Path) -> list[list[object]]:
    """Size, share, runs; then for each tier the share of runs that called in 1, 2, 5 rounds."""
    lines: list[list[object]] = []
    for size in SIZES:
        for share in SHARES:
            found = rows_of(out, f"{size}/collapse-{share:g}")
            if not found:
                continue
            line: list[object] = [size, f"{100 * share:.0f} %", len(found)]
            for tier in (Tier.WATCH, Tier.HALT):
                called = np.array([int(row[tier]) or NUM_ROUNDS + 1 for row in found])
                line += [f"{100 * (called <= within).mean():.0f} %" for within in WITHIN]
                middle = float(np.median(called))
                line.append(f"{middle:.0f}" if middle <= NUM_ROUNDS else "never")
            lines.append(line)
    return lines


def write(out: Path) -> Path:
    """The page with both tables."""
    heads = [f"{tier.upper()} in {n}" for tier in (Tier.WATCH, Tier.HALT) for n in WITHIN]
    heads.insert(len(WITHIN), "median round")
    boundary = markdown.table(
        ("tier", "N x k", "world", "runs", "alarms", "share", "95 % upper bound", "promised"),
        boundary_lines(out),
    )
    calls = markdown.table(
        ("N x k", "canned", "runs", *heads, "median round "),
        collapse_lines(out),
    )
    path = out / PAGE
    path.write_text(TEXT.format(boundary=boundary, calls=calls), encoding="utf-8")
    return path


TEXT = """# Text that nobody scores: false alarms, and how soon a canned response is called

Written by `python -m ouroloop.monitors.bench.validate unscored` from `unscored.csv`; nothing here
is typed by hand. Runs of 20 rounds, drawn with replacement from a simulated population whose means
are known (`monitors/decision/free_population.py`), with four times as many samples at the baseline.
The rule is that of decision 042 and those before it; a line that is not here was not run under it,
and `unscored_before_021.csv` has the runs under the rule before decision 021.

## At the boundary

What is named has truly lost exactly what the tier tolerates (the whole tolerance for HALT, a
quarter of it for WATCH), in all 20 rounds; nothing else is worse than tolerated.

{boundary}

## A canned response

This share of all samples is one text: written without hesitation, else inconspicuous (of usual
length, not cut, approved of as often as any other). The share of runs in which the tier has called
within so many rounds of the collapse. What grows by no more than a quarter of `canned_gain` is
tolerated by both tiers.

{calls}
"""
