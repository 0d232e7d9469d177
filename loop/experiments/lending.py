"""What runs of one study and seed have in common is made once, and lent to those that come later.

Seeds derive from problem, round and sample, so that arms draw the same. Those that begin with the
same model draw the same round 0. Those that differ only in whether the guard acts (twins) make the
same rounds until it acts for the first time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.experiments.study import seed_of
from ouroloop.loop.folder.integrity import MANIFEST, read_manifest
from ouroloop.loop.folder.ledger import files_of
from ouroloop.loop.folder.store import CLUSTERS, STRATEGIES, read_json
from ouroloop.loop.folder.sums import ROUNDS, round_folder
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.rows import PreflightAction
from ouroloop.monitors.names import Action

# Keys that a run's round 0, the starting model as it is, does not depend on.
#
# Any other that differs makes another beginning, and so do a verdict that only one asks for
# (`filters.critic`) and, beside a model that knows chat turns, another teacher. A warm start is
# trained with the trainer's settings, so that runs with one begin each for itself.
LATER = {
    "name",
    "rounds",
    "init",
    "filters",
    "dataset",
    "sft",
    "peft",
    "launcher",
    "accelerate_config",
    "interventions",
    "tracking",
}
LATER_OF = {
    "sampling": {"problems_per_round", "samples_per_problem", "temperatures", "student", "systems"},
    "monitors": {"guard"},
}
BEGINNING = ("texts.parquet", "probe.parquet", "critics.parquet")

# Keys in which twins may differ.
OWN, OWN_OF = {"name", "tracking"}, {"monitors": {"guard"}}
# Each run decides and commits for itself.
DECISION = "decision.json"
# What tells whether two runs made the same round: what the model said after it.
PROBE = "probe.parquet"
# What round 0 leaves beside the rounds.
LEARNED = (STRATEGIES, CLUSTERS)


def lend(path: Path, recipe: Recipe, number: int) -> str:
    """Give a run what the round that comes next has in common with one beside it.

    Files are hard links: the same bytes, and no copy of what a hundred runs share.

    Returns: the name of the run that lends; empty where none does, or the round has begun.
    """
    folder = round_folder(path, number)
    if folder.exists():
        return ""
    others = [run for run in _of_seed(path) if _manifest(run, number).exists()]
    for other in others:
        if _is_twin(other, recipe) and _made_alike(path, other, number):
            if number == 0:
                _link(other, path, (name for name in LEARNED if (other / name).exists()))
            _link_round(_manifest(other, number).parent, folder)
            return other.name
    for other in others if number == 0 else ():
        # What names texts is learned with round 0, and is not lent with a part of it.
        learned = any((other / name).exists() for name in LEARNED)
        if not learned and _begins_alike(other, recipe):
            folder.mkdir(parents=True)
            _link(_manifest(other, number).parent, folder, BEGINNING)
            return other.name
    return ""


def lendable(path: Path) -> int:
    """The last round that a run may lend: the first that its guard acts on, or its last one."""
    last = 0
    for last in range(len(list((path / ROUNDS).glob(f"*/{MANIFEST}")))):
        if not _went_on(path, last):
            break
    return last


def _of_seed(path: Path) -> list[Path]:
    found = sorted(path.parent.glob(f"*-{seed_of(path)}/recipe.json"))
    return [file.parent for file in found if file.parent != path]


def _manifest(run: Path, number: int) -> Path:
    return round_folder(run, number) / MANIFEST


def _is_twin(other: Path, recipe: Recipe) -> bool:
    # A warm start's checkpoint lies in the run that made it.
    mine, theirs = recipe.to_json(), read_json(other / "recipe.json")
    return recipe.warm_start is None and _without(mine, OWN, OWN_OF) == _without(
        theirs, OWN, OWN_OF
    )


def _begins_alike(other: Path, recipe: Recipe) -> bool:
    written = read_json(other / "recipe.json")
    asks_alike = recipe.asks_verdict == resolve(written, where=str(other)).asks_verdict
    if recipe.warm_start is not None or not asks_alike:
        return False
    later = set(LATER)
    # Chat turns are for a round whose models all know them: a teacher may end the student's.
    if not has_chat_template(check_checkpoint(resolve_model(recipe.model))):
        later.add("teachers")
    mine = recipe.to_json()
    return _without(mine, later, LATER_OF) == _without(written, later, LATER_OF)


def _without(
    recipe: dict[str, Any], keys: set[str], keys_of: dict[str, set[str]]
) -> dict[str, Any]:
    kept = {key: value for key, value in recipe.items() if key not in keys}
    return {
        **kept,
        **{key: {k: v for k, v in kept[key].items() if k not in of} for key, of in keys_of.items()},
    }


def _made_alike(path: Path, other: Path, number: int) -> bool:
    """Whether this round of a twin is what the run would make: the guard acted in neither so far.

    And the round's model is there; where checkpoints make room, or were taken away, it is not.
    """
    for past in range(number):
        if not (_went_on(path, past) and _went_on(other, past)):
            return False
    if number == 0:
        return True
    # The run's own last round may have been made by itself, with another batch's rounding.
    mine, theirs = (read_manifest(_manifest(run, number - 1))["files"] for run in (path, other))
    folder = _manifest(other, number).parent
    passed = read_json(folder / "preflight.json")["action"] == PreflightAction.PASS
    checkpoint = other / str(read_json(folder / "train.json")["checkpoint"])
    return bool(mine[PROBE] == theirs[PROBE] and passed and checkpoint.exists())


def _went_on(run: Path, number: int) -> bool:
    """Whether a committed round was followed by the next one as planned."""
    action = read_json(_manifest(run, number).parent / DECISION)["action"]
    return bool(action == Action.CONTINUE)


def _link_round(source: Path, folder: Path) -> None:
    """All of a round but its decision; whole or not at all."""
    made = folder.with_name(f".{folder.name}.lent.tmp")
    if made.exists():
        shutil.rmtree(made)
    names = (str(file.relative_to(source)) for file in files_of(source))
    _link(source, made, (name for name in names if name != DECISION))
    made.rename(folder)


def _link(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not (target / name).exists():
            (target / name).hardlink_to(source / name)
