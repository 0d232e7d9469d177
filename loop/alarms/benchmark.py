"""Makes or reads the benchmark's runs, scores them with every detector, writes the table."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.evals import plugins
from ouroloop.loop.alarms import files, real
from ouroloop.loop.errors import DataError
from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.views.progress import Progress
from ouroloop.monitors.bench.alarms import lock, table
from ouroloop.monitors.bench.alarms.detectors import DETECTORS, Detector
from ouroloop.monitors.bench.alarms.evaluate import RunFacts, Scored, scores_of
from ouroloop.monitors.bench.alarms.history import history_of
from ouroloop.monitors.bench.alarms.simulation import SIZES, simulated

DETECTOR: plugins.Kind[Detector] = plugins.Kind(
    "detector", "--add", "ouroloop.detectors", built_in=DETECTORS, needs=("name", "score")
)
PAGE, NUMBERS = "alarms.md", "alarms.csv"


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        data: folder of the traces.
        out: folder of the table.
        size: a key of `SIZES`.
        seeds: simulated runs of each regime in each world; 0: none.
        detectors: names, `module:Name` or `path/to/file.py:Name`.
        runs: a folder of real runs, or None.
        healthy: patterns of the names of real runs that are healthy by their design.
        jobs: processes.
        command: that makes the same again, for the page.
    """

    data: Path
    out: Path
    size: str
    seeds: int
    detectors: tuple[str, ...]
    runs: Path | None = None
    healthy: tuple[str, ...] = ()
    jobs: int = 1
    command: str = "ouroloop bench alarms"


def bench(plan: Plan, progress: Progress) -> table.Result:
    """Everything, in order; what lies in the folder already is not made again.

    Raises:
        DataError: the folder holds another benchmark's runs, or there is no such detector.
    """
    # A name that is wrong should cost no simulation.
    makers = [_maker(name) for name in plan.detectors]
    # Results are kept by the name that the table shows.
    titles = [make().name for make in makers]
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise DataError(
            f"--add: two detectors are called {twice[0]!r}; expected different names. Change the"
            " `name` of one."
        )
    facts = [*_simulated(plan, progress), *_real(plan, progress)]
    files.write_facts(plan.data, facts)
    scored: dict[str, list[Scored]] = {title: [] for title in titles}
    todo = [(plan.data, each.run, plan.detectors) for each in facts]
    for done, (each, found) in enumerate(
        zip(facts, _map(scores_of_run, todo, plan.jobs), strict=True), start=1
    ):
        for title, scores in zip(titles, found, strict=True):
            scored[title].append(Scored(each, scores))
        progress("scoring", done, len(facts), each.run)
    limits = {
        title: getattr(make(), "limit", None) for title, make in zip(titles, makers, strict=True)
    }
    result = table.result(scored, limits)
    _write(plan, result)
    return result


def _maker(name: str) -> Callable[..., Detector]:
    try:
        plugins.build(DETECTOR, name)
        return plugins.find(DETECTOR, name)
    except ValueError as error:
        raise DataError(str(error)) from error


# --- the runs ---


def _simulated(plan: Plan, progress: Progress) -> Iterator[RunFacts]:
    """The locked runs; those that have no file yet are simulated."""
    if not plan.seeds:
        return
    _check_lock(plan)
    keys = lock.keys(plan.seeds)
    todo = [(plan.data, key, plan.size) for key in keys]
    for done, facts in enumerate(_map(simulate_run, todo, plan.jobs), start=1):
        progress("simulating", done, len(keys), facts.run)
        yield facts


def _check_lock(plan: Plan) -> None:
    """Refuse a folder whose runs were made by another simulation."""
    wanted = {
        "version": lock.VERSION,
        "lock": lock.digest(),
        "size": plan.size,
        "simulation": fingerprint(plan.size),
    }
    known = files.read_lock(plan.data)
    if known is None:
        files.write_lock(plan.data, wanted)
    elif known != wanted:
        wrong = next(name for name in wanted if known.get(name) != wanted[name])
        raise DataError(
            f"{plan.data}: its runs were made with {wrong} {known.get(wrong)}; expected"
            f" {wanted[wrong]}. Remove the folder, or name another one by --data."
        )


def fingerprint(size: str) -> str:
    """Of what the simulation makes today: the first run of each regime."""
    # All regimes, for each goes through another part of the simulation.
    first = {key.regime: key for key in reversed(lock.keys())}
    digest = hashlib.sha256()
    for key in first.values():
        columns, truth = simulated(key, SIZES[size])
        digest.update(repr((key.name, truth)).encode())
        for name in ("correct", "strategy", "answer"):
            digest.update("\n".join(map(str, columns[name])).encode())
    return digest.hexdigest()[:16]


def simulate_run(data: Path, key: lock.RunKey, size: str) -> RunFacts:
    """Make a locked run's file, unless it is there; what is true of it is always worked out."""
    # Simulating takes a tenth of a second; only the file is saved by its being there.
    columns, truth = simulated(key, SIZES[size])
    facts = RunFacts(
        run=key.name,
        kind="simulated",
        regime=key.regime,
        healthy=key.is_healthy,
        split=key.split,
        rounds=lock.ROUNDS,
        world=key.world,
        seed=key.seed,
        onset=truth.onset,
        events=truth.events,
    )
    if not files.samples_path(data, key.name).exists():
        files.write_samples(data, facts, columns)
    return facts


def _real(plan: Plan, progress: Progress) -> Iterator[RunFacts]:
    """The runs of a folder; read anew each time, for they may have gone on."""
    if plan.runs is None:
        return
    for done, (facts, columns) in enumerate(real.real_runs(plan.runs, plan.healthy), start=1):
        files.write_samples(plan.data, facts, columns)
        progress("reading", done, 0, facts.run)
        yield facts


# --- the scores ---


def scores_of_run(data: Path, run: str, detectors: Sequence[str]) -> list[tuple[float, ...]]:
    """Every detector's scores of a run. A function of plain values: workers are sent them."""
    columns = files.read_samples(files.samples_path(data, run))
    history = history_of(columns, lock.ROUNDS)
    return [scores_of(plugins.build(DETECTOR, name), history) for name in detectors]


def _map(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], jobs: int
) -> Iterable[Any]:
    if jobs == 1:
        yield from (function(*each) for each in arguments)
        return
    with ProcessPoolExecutor(jobs) as pool:
        # Chunks of four save on sending short tasks to the workers.
        yield from pool.map(function, *zip(*arguments, strict=True), chunksize=4)


# --- the table ---


def _write(plan: Plan, result: table.Result) -> None:
    plan.out.mkdir(parents=True, exist_ok=True)
    write_text(plan.out / PAGE, table.page(result, plan.command))
    rows = table.rows(result)
    with (plan.out / NUMBERS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["detector"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
