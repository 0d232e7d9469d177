"""The one results file of an experiment: a CSV line per arm, seed and row of the run.

While a study runs, every finished run leaves a small table of its own beside the runs; `collect`
moves what those hold into the results file. Cells are copied as text: no digit is lost on the way.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

from ouroloop.loop.experiments.rounds import typed
from ouroloop.loop.experiments.study import Results, Run, Study
from ouroloop.loop.folder.storage import atomic

NAME = "results.csv"
Lines = list[dict[str, str]]


def table_of(tables: Path, run: Run) -> Path:
    """The small table of one run."""
    arm, seed = run
    return tables / f"{arm}-{seed}.csv"


def read(study: Study, path: Path) -> Results:
    """Arm -> seed -> rows, arms in the study's order; empty when nothing is finished."""
    found: dict[str, dict[int, list[dict[str, object]]]] = {}
    lines = _lines(path)
    for arm in study.arms:
        runs = {seed: rows for (name, seed), rows in lines.items() if name == arm}
        if runs:
            found[arm] = {seed: [typed(row) for row in rows] for seed, rows in sorted(runs.items())}
    return found


def collect(study: Study, tables: Path, path: Path, again: Collection[Run] = ()) -> None:
    """Take the tables of finished runs that the results file lacks into it.

    Of the runs in `again` the table counts, whatever the file holds. Writes nothing where there is
    nothing new.
    """
    known = _lines(path)
    new = {
        run: _csv(table)
        for run, table in _tables(study, tables).items()
        if run not in known or run in again
    }
    if new:
        write(study, {**known, **new}, path)


def _tables(study: Study, folder: Path) -> dict[Run, Path]:
    found = {}
    for path in sorted(folder.glob("*.csv")):
        arm, _, seed = path.stem.rpartition("-")
        if arm in study.arms and seed.isdigit():
            found[arm, int(seed)] = path
    return found


def write(study: Study, lines: Mapping[Run, Lines], path: Path) -> None:
    """Write every run's rows, arms in the study's order; whole or not at all."""
    # Rows of arms that the study no longer has stay in the file, at its end.
    order = [*study.arms, *sorted({arm for arm, _ in lines} - set(study.arms))]
    runs = sorted(lines, key=lambda run: (order.index(run[0]), run[1]))
    # Columns in the order in which they first appear; a run without one leaves it empty.
    columns = list(dict.fromkeys(key for run in runs for row in lines[run] for key in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["arm", "seed", *columns], restval="", lineterminator="\n")
        writer.writeheader()
        for arm, seed in runs:
            writer.writerows({"arm": arm, "seed": seed, **row} for row in lines[arm, seed])


def _lines(path: Path) -> dict[Run, Lines]:
    """Run -> its rows as text, without the columns that name the run."""
    found: dict[Run, Lines] = {}
    for row in _csv(path) if path.exists() else ():
        run = row.pop("arm"), int(row.pop("seed"))
        found.setdefault(run, []).append(row)
    return found


def _csv(path: Path) -> Lines:
    with path.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))
