"""`ouroloop study`: run studies, or go on with them, and write what they found."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ouroloop.loop.errors import UserError
from ouroloop.loop.experiments import harness, index, loading, report, results
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.study import Study


def study(options: Namespace, root: Path) -> int:
    """Carry out the command; `root` is the folder of runs.

    Raises:
        UserError: no such study or arm.
    """
    if options.list or not options.study:
        for folder in loading.available():
            made = loading.load(folder)
            print(f"{folder!s:<36} {made.paper or 'our own'}: {made.claim}")
        if not loading.available():
            print(f"nothing in {loading.HOME} here; Ouroloop's own lie in its repository.")
        return 0
    # All are loaded before one runs: a wrong name is reported now, not in hours.
    experiments = {path: loading.load(path) for path in options.study}
    places = {path: _place(path, made, options, root) for path, made in experiments.items()}
    if not options.table:
        for path, made in experiments.items():
            harness.refuse_wrong_arms(made.study, places[path], *_wanted(made, options))
    for path, made in experiments.items():
        _one(path, made, places[path], options, root)
    # The index counts what a repository keeps: its own experiments, and no quick results.
    home = loading.HOME.resolve()
    ours = any(home in path.resolve().parents for path in experiments)
    if ours and not options.quick and options.out is None:
        index.write(home, home.parents[1])
    return 0


def _place(path: Path, made: Experiment, options: Namespace, root: Path) -> harness.Place:
    name = made.study.name + "-quick" * options.quick
    runs = root / "studies" / name
    # results lie beside a study that has a folder of its own; those of a lone file, with its runs
    kept = path if path.is_dir() else runs
    # A quick run never touches committed results.
    out = options.out or (runs if options.quick else kept)
    return harness.Place(path.resolve(), runs, out / results.NAME, options.quick)


def _wanted(made: Experiment, options: Namespace) -> tuple[Sequence[str], Sequence[int]]:
    """The arms and the seeds that were asked for."""
    seeds = options.seeds or (made.seeds[:1] if options.quick else made.seeds)
    return _arms(made.study, options.arms, options.quick), seeds


def _one(
    path: Path, made: Experiment, place: harness.Place, options: Namespace, root: Path
) -> None:
    folder, out = path if path.is_dir() else path.parent, place.results.parent
    if not options.table:
        harness.run(made.study, place, *_wanted(made, options), options.jobs)
    else:
        results.collect(made.study, place.tables, place.results)
    words = folder / report.FINDINGS
    text = words.read_text(encoding="utf-8") if path.is_dir() and words.exists() else ""
    print(report.write(made, _shown(path), out, text, options.quick))
    if options.mlflow and place.results.exists():
        print(report.record(made, out, root, options.quick))


def _shown(path: Path) -> str:
    """The path as a reader types it: from here, where it lies below."""
    relative = os.path.relpath(path)
    return path.as_posix() if relative.startswith("..") else Path(relative).as_posix()


def _arms(study: Study, asked: Sequence[str] | None, quick: bool) -> Sequence[str]:
    """The arms that were asked for."""
    arms = asked or study.default_arms(quick)
    if unknown := [arm for arm in arms if arm not in study.arms]:
        raise UserError(
            f"{study.name}: no arm is called {unknown[0]!r}. There are {', '.join(study.arms)}."
        )
    return arms
