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

from ouroloop.loop.config import Recipe
from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.worker import end_group
from ouroloop.loop.errors import OuroloopError
from ouroloop.loop.experiments import loading, results, rounds
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.warm import warm_up
from ouroloop.loop.recipe_file import resolve
from ouroloop.loop.runner import build_engine, carry
from ouroloop.loop.setup import prepare
from ouroloop.loop.store import Store, read_json, sha256_of

LATER = {
    "name",
    "rounds",
    "init",
    "teachers",
    "filters",
    "dataset",
    "sft",
    "peft",
    "launcher",
    "accelerate_config",
    "interventions",
    "tracking",
}

# Keys that a run's round 0, the starting model as it is, does not depend on.
#
# Any other that differs makes another beginning.
LATER_OF = {
    "sampling": {"problems_per_round", "samples_per_problem", "temperatures", "student", "systems"},
    "monitors": {"guard"},
}
BEGINNING = ("texts.parquet", "probe.parquet", "critics.parquet")


def lend_beginning(path: Path, recipe: Recipe) -> bool:
    """Give a run that has not begun the probe of a finished round 0 beside it.

    If one began alike: it would draw the same samples again.
    """
    folder = path / "rounds" / "000"
    if folder.exists():
        return False
    for other in sorted(
        path.parent.glob(f"*-{recipe.name.rpartition('-')[2]}/rounds/000/MANIFEST.json")
    ):
        run = other.parents[2]
        if (
            _beginning(read_json(run / "recipe.json")) == _beginning(recipe.to_json())
            and not (run / "strategies.json").exists()
        ):
            folder.mkdir(parents=True)
            # Hard links: the same bytes, and no copy of what a hundred runs share.
            for name in BEGINNING:
                (folder / name).hardlink_to(other.parent / name)
            return True
    return False


def _beginning(recipe: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in recipe.items() if key not in LATER}
    return {
        **kept,
        **{
            key: {k: v for k, v in kept[key].items() if k not in later}
            for key, later in LATER_OF.items()
        },
    }


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
        lend_beginning(path, store.recipe)
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
