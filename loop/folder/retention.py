"""Checkpoints that nobody needs any more make room: the recipe's `keep`.

A model of 7 B parameters leaves 28 GB a round. Tables, readings and decisions are never pruned.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ouroloop.loop.best import best_round
from ouroloop.loop.config import Recipe
from ouroloop.loop.folder.integrity import CHECKPOINT, MANIFEST, PRUNED, read_manifest
from ouroloop.loop.folder.storage import to_disk
from ouroloop.loop.folder.store import Store, write_json
from ouroloop.loop.folder.sums import sealed
from ouroloop.loop.round import Round
from ouroloop.loop.stages import plan

# What `keep.last: auto` is where a checkpoint is large: the newest, and one to fall back on.
AUTO_LAST = 2
# A hundred rounds of smaller ones fit on a disk that holds one run of a 7 B model.
SMALL_BYTES = 10**9


def needed(history: Sequence[Round], recipe: Recipe) -> set[int]:
    """The rounds whose models a later round may draft with or start from, whatever is decided.

    `history`: the committed rounds, round 0 first. Its own model is not in the run's rounds.
    """
    last = history[-1]
    # A round that a rollback goes back to is this one or one that is still to come: it is the
    # highest or the last of those that are unharmed.
    found = {last.number, plan.unharmed(history, recipe.monitors.gold)}
    if recipe.init == "best":
        found.add(plan.best_of(history))
    if last.number:
        # Earlier selves that draft go on drafting.
        found.update(last.plan.teachers)
    if recipe.monitors.guard and recipe.interventions.blend:
        # The last remedy draws the weights to those of a baseline round.
        found.update(_baselines(history, recipe))
    return found


def wanted(history: Sequence[Round], recipe: Recipe) -> set[int]:
    """The rounds whose models the recipe asks to keep for people."""
    keep, found = recipe.keep, set[int]()
    left = [(past.number, past.score, past.decision.action) for past in history]
    for _ in range(keep.best):
        best = best_round(left)
        if best is None:
            break
        found.add(best)
        left = [each for each in left if each[0] != best]
    num_last = AUTO_LAST if isinstance(keep.last, str) else keep.last
    found.update(past.number for past in history[len(history) - num_last :])
    if keep.baseline:
        found.update(_baselines(history, recipe))
    return found


def _baselines(history: Sequence[Round], recipe: Recipe) -> set[int]:
    numbers = range(len(history))
    return {n for n in numbers if plan.is_baseline(history, n, recipe.monitors)}


def prune(store: Store, history: Sequence[Round], recipe: Recipe) -> None:
    """Take away the checkpoints that are neither needed nor wanted, and say so in the events.

    After each commit, and at a run's end: a kill may have come between the last commit and this.
    The manifest says so before it happens and goes on listing their sums: one that is put back is
    compared with them.
    """
    keep = recipe.keep
    if keep.last == "all":
        return
    kept = needed(history, recipe) | wanted(history, recipe)
    # A round that trained nothing stands on the checkpoint of an earlier one.
    places = {store.path / past.training.checkpoint for past in history[1:] if past.number in kept}
    for past in history[1:]:
        folder = past.folder / CHECKPOINT
        if folder in places or not folder.exists():
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if keep.last == "auto" and size < SMALL_BYTES:
            continue
        _mark(past.folder / MANIFEST)
        # Renamed first: half a checkpoint would count as a damaged one. What a kill leaves of it
        # goes when the run is opened (`ledger.remove_temporary`).
        doomed = folder.with_name(f".{folder.name}.pruned.tmp")
        folder.rename(doomed)
        shutil.rmtree(doomed)
        store.event("checkpoint_pruned", round=past.number, bytes=size)


def _mark(manifest: Path) -> None:
    listed = read_manifest(manifest)
    if PRUNED in listed:
        return
    made = manifest.stat()
    write_json(manifest, sealed({**listed, PRUNED: [CHECKPOINT]}))
    to_disk(manifest.parent)
    # Of a round of an older version its time of change alone says when it was committed.
    os.utime(manifest, ns=(made.st_atime_ns, made.st_mtime_ns))
