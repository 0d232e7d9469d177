"""A scripted model of the arithmetic world and a trainer that trains nothing.

The whole loop in seconds.
"""

import asyncio
import json
import random
import shutil
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.folder.ledger import Ledger
from ouroloop.loop.folder.lines import proven
from ouroloop.loop.folder.store import Store, read_rows, write_json
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare

TASK = ArithmeticTask()
BY_QUESTION = {
    p.question: p for split in ("train", "reserve", "heldout") for p in TASK.problems(split)
}

RECIPE = {
    "name": "scripted",
    "rounds": 3,
    "task": {"kind": "arithmetic"},
    "engine": {"weight_sync_check": False},
    "sampling": {"problems_per_round": 25, "samples_per_problem": 4, "max_tokens": 96},
    "refine": {"max_critique_tokens": 200},
    "filters": {"steps": True},
    "dataset": {"min_examples": 4},
    "probe": {
        "problems": 12,
        "family_problems": 2,
        "samples": 8,
        "baseline_samples": 16,
        "critiques": 12,
        "texts": 16,
        "audit_items": 10,
    },
    "tracking": {"mlflow": False},
}


# A sixth of the texts: for how a run is carried out, whatever its numbers are.
SMALL = {
    "sampling": {"problems_per_round": 8, "samples_per_problem": 2},
    "probe": {
        "problems": 6,
        "family_problems": 1,
        "samples": 4,
        "baseline_samples": 4,
        "pass_at": 4,
        "majority": 4,
        "critiques": 4,
        "texts": 4,
        "audit_items": 4,
    },
}


def recipe(**changes):
    return resolve(_changed(RECIPE, changes))


def small(**changes):
    """The same recipe with few samples and a small probe set."""
    return resolve(small_keys(**changes))


def small_keys(**changes):
    """Its keys, before they are resolved."""
    return _changed(_changed(RECIPE, SMALL), changes)


def _changed(raw, changes):
    raw = json.loads(json.dumps(raw))
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) and key in raw else value
    return raw


class Model:
    """Right with probability `skill[round]` and in a strategy drawn from `mix[round]`.

    The round is read from the loaded checkpoint.
    """

    def __init__(self, skill=lambda number: 0.6, mix=lambda number: world.STRATEGY_WEIGHTS):
        self.skill, self.mix = skill, mix
        self.engine = ScriptedEngine(self.answer)

    @property
    def round(self):
        last = self.engine.loaded[-1]
        return int(last.parent.name) if last.parent.name.isdigit() else 0

    def answer(self, request):
        question, _, rest = request.prompt.partition("\nA:\n")
        item = BY_QUESTION[question]
        draft, _, critique = rest.partition("\nC:\n")
        if "\nR:\n" in critique:
            return world.demonstrate(item, self.strategy(item, random.Random(request.seed)))
        if "\nC:\n" in rest:
            return world.criticise(item, draft)
        rng = random.Random(request.seed)
        strategy = self.strategy(item, rng)
        right = rng.random() < self.skill(self.round) or request.sampling.temperature == 0
        if right or strategy is None:
            text = world.demonstrate(item, strategy)
            return text if right else text + "7"
        return world.slip(item, strategy, rng)

    def strategy(self, item, rng):
        if item.family in world.SKILLS:
            return None
        names = [
            n
            for n in world.st.STRATEGIES[item.family]
            if world.st.applies(n, item.family, item.metadata["a"])
        ]
        weights = [self.mix(self.round).get(n, 0.0) + 1e-9 for n in names]
        return rng.choices(names, weights)[0]


def no_training(job, folder, report):
    """What training.train leaves behind, without training."""
    (folder / "checkpoint").mkdir(exist_ok=True)
    report(1, 1)
    facts = {
        "status": "trained",
        "checkpoint": f"rounds/{folder.name}/checkpoint",
        "seconds": 0.0,
        "num_examples": 1,
        "loss": [],
        "by_origin": {},
    }
    write_json(folder / "train.json", facts)
    return facts


def copying(job, folder, report):
    """No training: the checkpoint is a copy of the one before, so that a process can load it."""
    facts = no_training(job, folder, report)
    shutil.rmtree(folder / "checkpoint")
    shutil.copytree(job.init, folder / "checkpoint")
    return facts


@contextmanager
def nothing_graded():
    """In it no text is right or wrong."""
    graded = ArithmeticTask.grade

    def without_verdict(self, *item):
        return replace(graded(self, *item), correct=None)

    with mock.patch.object(ArithmeticTask, "grade", without_verdict):
        yield


def rows(path, number, name):
    """The rows of a table of a round."""
    return read_rows(path / "rounds" / f"{number:03d}" / f"{name}.parquet")


def carry(root, model, settings, trainer=no_training, committed=lambda number: None):
    """Run a campaign to its end, or go on with the one in `root`."""
    path = root / settings.name
    store = (
        Store.open(path)
        if (path / "recipe.json").exists()
        else Store.create(root, settings, "none")
    )
    campaign = Campaign(
        store, prepare(settings), model.engine, lambda *what: None, committed, trainer=trainer
    )
    try:
        return asyncio.run(campaign.run()), path
    finally:
        store.close()


def uncommit(path, number, *lost):
    """As a kill leaves the last round of a run: not committed, and without the files `lost`."""
    folder = path / "rounds" / f"{number:03d}"
    for name in ("MANIFEST.json", *lost):
        (folder / name).unlink()
    Ledger(path, folder).add_new()
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    kept = []
    for event in events:
        del event["crc32"]
        if not (event["event"] == "round_committed" and event["round"] == number):
            kept.append(proven(json.dumps(event)))
    (path / "events.jsonl").write_text("".join(f"{line}\n" for line in kept))


def recommit(path, number):
    """Commit a round again whose files a test has changed."""
    (path / "rounds" / f"{number:03d}" / "MANIFEST.json").unlink()
    Round.of(path, number).commit()
