"""Supervised fine-tuning on demonstrations, once, before round 0.

A model that solves next to nothing has no samples to learn from. Its warm start is a training like
a round's, in the run's folder `warm_start`; what comes of it is the run's starting model.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.conversations import questions_of
from ouroloop.evals.near import Copies
from ouroloop.evals.problem_files import read_demonstrations
from ouroloop.evals.questions import normalised
from ouroloop.loop.cache import cache_root, link_tree
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.recipe import DEFAULT_OBJECTIVE
from ouroloop.loop.errors import DataError, TrainingError
from ouroloop.loop.folder import tables
from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.folder.store import ENVIRONMENT, read_json, sha256_of
from ouroloop.loop.objectives.base import LearnsFrom
from ouroloop.loop.objectives.job import Trainer, TrainingJob
from ouroloop.loop.objectives.registry import learns_from
from ouroloop.loop.records import Problem
from ouroloop.loop.rows import Example
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.refine import derive_seed

EXAMPLES = "examples.parquet"
CHECKPOINT = "checkpoint"
FACTS = "train.json"
Report = Callable[[int, int], None]
# What the environment says that does not influence a training.
INCIDENTAL = ("fingerprint", "platform", "cpus", "started")


def demonstrations(
    recipe: Recipe, own: Iterable[Problem], held_out: Collection[str], copies: Copies
) -> tuple[Problem, ...]:
    """What the recipe's warm start learns from: solved problems, no held-out question among them.

    Args:
        recipe: the run's recipe; without a warm start there are none.
        own: the task's problems that may be trained on.
        held_out: normalised questions that may not.
        copies: finds near copies of them in questions and solutions.

    Raises:
        DataError: there are none, or the file of demonstrations cannot be read.
    """
    config = recipe.warm_start
    if config is None:
        return ()
    found = read_demonstrations(config.path) if config.path else [p for p in own if p.solution]
    clean = [
        problem
        for problem in found
        if copies.find(problem.solution or "") is None
        and not any(
            normalised(asked) in held_out or copies.find(asked) is not None
            for asked in questions_of(problem)
        )
    ]
    if not clean:
        raise DataError(
            f"warm_start: no demonstrations, {len(found)} solutions before held-out questions were"
            " taken out. Give the training problems a `solution`, name a file of demonstrations"
            " under warm_start.path, or leave the section out."
        )
    if config.examples is not None and config.examples < len(clean):
        seed = derive_seed(recipe.seed, 0, "", "warm start", 0)
        clean = random.Random(seed).sample(clean, config.examples)
    return tuple(clean)


def held(recipe: Recipe) -> Recipe:
    """The recipe as it holds in the warm start: round 1's training, with the section's settings."""
    config = recipe.warm_start
    assert config is not None
    changes: dict[str, Any] = {
        "sft": {**recipe.sft, "num_train_epochs": config.epochs, **config.sft}
    }
    objective = recipe.at(1).objective
    # Demonstrations are no preference pairs.
    if learns_from(objective.use, objective.options) is LearnsFrom.PAIRS:
        objective = DEFAULT_OBJECTIVE
    changes["objective"] = objective
    return recipe.model_copy(update=changes)


def trainings(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Every kind of training of a run: its place in the recipe, and the recipe as it holds there.

    The place is what a sentence about it begins with: "stages.1: ", or nothing.
    """
    for index, number in enumerate(recipe.first_rounds):
        yield f"stages.{index}: " if recipe.stages else "", recipe.at(number)
    if recipe.warm_start is not None:
        yield "warm_start: ", held(recipe)


def job_of(recipe: Recipe, base: Path, folder: Path) -> TrainingJob:
    """What the trainer is asked to do."""
    seed = derive_seed(recipe.seed, 0, "", "sft", 0)
    return TrainingJob.from_recipe(held(recipe), base, folder, seed)


async def write_examples(solved: Sequence[Problem], encoder: Encoder, folder: Path) -> None:
    """The training set of the warm start."""
    examples = await encoder.solutions(solved, 0)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_table(folder / EXAMPLES, examples, Example)


def is_trained(folder: Path) -> bool:
    """Whether the warm start is over: its facts are written last."""
    return (folder / FACTS).exists()


def learn(job: TrainingJob, run: Path, trainer: Trainer, report: Report) -> dict[str, Any]:
    """Train, or take the result of another run that trained exactly the same.

    Returns:
        For the run's events: seconds, examples, and whether it was taken from the cache.
    """
    folder = job.examples.parent
    cache = cached(job, run)
    taken = is_trained(cache)
    if taken:
        link_tree(cache / CHECKPOINT, job.output)
        # Last, as when it was trained: its presence says that all the rest is there.
        write_text(folder / FACTS, (cache / FACTS).read_text(encoding="utf-8"))
    else:
        trainer(job, folder, report)
        _refuse_rejected(folder)
        link_tree(folder, cache)
    facts = read_json(folder / FACTS)
    return {
        "seconds": facts["seconds"],
        "examples": facts["num_examples"],
        "from_cache": taken,
    }


def _refuse_rejected(folder: Path) -> None:
    """No run begins on a training that was rejected; a resumed run trains again.

    Raises:
        TrainingError: with the cause.
    """
    facts = read_json(folder / FACTS)
    if facts["status"] == "rejected":
        (folder / FACTS).unlink()
        raise TrainingError(
            f"{folder}: the warm start was rejected: {facts['reason']}. Lower"
            " warm_start.sft.learning_rate, or look into the model's weights."
        )


def cached(job: TrainingJob, run: Path) -> Path:
    """Where the result of this very training is kept for other runs, whether it is there or not.

    The name is a hash of all that the result depends on: the starting weights, the examples, the
    trainer's settings, the versions of the libraries.
    """
    # The run's own record: the sha256 of a large checkpoint is not taken twice.
    known = read_json(run / ENVIRONMENT)
    known = {key: value for key, value in known.items() if key not in INCIDENTAL}
    where = ("init", "examples", "output", "log_path", "supervision", "retries")
    settings = {key: value for key, value in job.to_json().items() if key not in where}
    depends = [known, settings, sha256_of(job.examples)]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
    return cache_root() / "warm_starts" / digest[:16]
