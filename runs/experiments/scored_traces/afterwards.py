"""Runs that scored no traces themselves, scored afterwards from their checkpoints: demo.csv.

`python -m runs.experiments.scored_traces.afterwards runs/demo runs/unguarded`
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.afterwards import serve, setting_of
from ouroloop.loop.round import Round
from ouroloop.loop.rows import TraceRow
from ouroloop.loop.runner import build_engine
from ouroloop.loop.stages import traces
from ouroloop.loop.views.reader import read_run

from .findings import DEMO
from .measure import table


async def scores(path: Path, engine: Engine, most: int) -> dict[int, list[TraceRow]]:
    """The answers that the run would have chosen, under the model of every round."""
    setting, run = setting_of(path), read_run(path)
    chosen = traces.choose(Round.of(path, 0).probe, most, setting.recipe.monitors.gold)
    found = {}
    for round_ in run.rounds:
        await serve(engine, run, round_.number)
        found[round_.number] = await traces.score(engine, setting, chosen, lambda *_: None)
    return found


def keep(found: Mapping[Path, Mapping[int, Sequence[TraceRow]]], out: Path = DEMO) -> None:
    """Write the rows of all runs, each with its run's name."""
    rows: list[dict[str, Any]] = [
        {"label": path.name, **row} for path, of in found.items() for row in table(path, of)
    ]
    rounds.write(rows, out)


async def main(paths: Sequence[Path]) -> None:
    """Score each run with its own engine, one after the other."""
    found = {}
    for path in paths:
        recipe = setting_of(path).recipe
        engine = build_engine(recipe, path / "scoring.log")
        try:
            found[path] = await scores(path, engine, recipe.probe.traces)
        finally:
            await engine.close()
    keep(found)


if __name__ == "__main__":
    asyncio.run(main([Path(name) for name in sys.argv[1:]]))
