"""A process that runs a study's runs one after the other.

`python -m ouroloop.loop.experiments.worker STUDY RUNS [--quick]`; STUDY is a folder or a file.

The libraries are imported once, training happens in this process and the engine is kept from run to
run, which saves a third of a small run's time. Reads {"arm", "seed"} lines from standard input,
answers each with {"arm", "seed"} and {"rows"} or {"error"}; dies with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.worker import end_group
from ouroloop.loop.errors import OuroloopError
from ouroloop.loop.experiments import lending, loading, results, rounds
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.folder.integrity import committed
from ouroloop.loop.folder.store import Store, sha256_of
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.warm import warm_up
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.runner import build_engine, carry
from ouroloop.loop.setup import prepare


class Worker:
    """Runs of one study with an engine kept warm."""

    def __init__(self, study: Study, runs: Path, quick: bool):
        self.study, self.runs, self.quick = study, runs, quick
        self._engine: Engine | None = None
        self._config: dict[str, Any] = {}

    async def one(self, arm: str, seed: int) -> int:
        """Run, or go on with, one arm of one seed and write its table.

        Returns the number of rows.
        """
        # In a thread: what a study makes (`$thing`) may run an event loop of its own.
        keys = await asyncio.to_thread(self.study.recipe, arm, seed, self.runs, self.quick)
        recipe = resolve(keys)
        path = self.runs / recipe.name
        begun = (path / "recipe.json").exists()
        setting = prepare(recipe)
        store = (
            Store.open(path, recipe)
            if begun
            else Store.create(self.runs, recipe, sha256_of(setting.base))
        )

        def lend(number: int) -> None:
            if lender := lending.lend(path, store.recipe, number):
                store.event("lent", to=number, by=lender)

        lend(len(committed(path)))
        recipe = setting.recipe
        # The engine stays warm from run to run unless its settings differ.
        config = recipe.engine_config()
        if self._engine is None or config != self._config:
            await self.close()
            self._engine, self._config = (
                build_engine(recipe, self.runs / f"engine-{os.getpid()}.log"),
                config,
            )
        campaign = Campaign(
            store,
            setting,
            self._engine,
            lambda *_: None,
            committed=lambda number: lend(number + 1),
            trainer=partial(training.train, here=True),
            proofs=self.runs,
        )
        await carry(campaign)
        if self.study.extra is not None:
            await self.study.extra(path, self._engine)
        found = self.study.measure(path)
        rounds.write(found, results.table_of(self.runs / "tables", (arm, seed)))
        return len(found)

    async def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None


async def serve(worker: Worker, replies: TextIO) -> None:
    """Answer lines until there are no more; a failure is answered and ends only that run."""
    warm_up()
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer: dict[str, Any] = {"rows": await worker.one(asked["arm"], asked["seed"])}
        except Exception as error:
            # Any error is an answer: the study reports it, and the log keeps the traceback.
            import traceback

            traceback.print_exc()
            answer = {
                "error": (
                    str(error)
                    if isinstance(error, OuroloopError)
                    else f"{type(error).__name__}: {error}"
                )
            }
        replies.write(json.dumps({**asked, **answer}) + "\n")
        replies.flush()
    end_group()


def main() -> None:
    """Entry point of the process.

    Standard output belongs to the replies alone: what libraries print goes to the log.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ouroloop.loop.experiments.worker", description=__doc__
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    # Libraries print to standard output; the parent reads replies there. So the replies keep the
    # old descriptor, and everything else goes to the log.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    study = loading.load(given.study).study
    asyncio.run(serve(Worker(study, given.runs, given.quick), replies))


if __name__ == "__main__":
    main()
