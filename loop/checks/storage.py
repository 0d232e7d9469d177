"""Whether a run can be begun in its folder, and copied to where `storage.url` says."""

from __future__ import annotations

from pathlib import Path

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.config import Recipe
from ouroloop.loop.errors import RunStateError, StorageError
from ouroloop.loop.folder.mirror import mirror_of
from ouroloop.loop.folder.store import refuse_impossible, refuse_taken
from ouroloop.loop.setup import Setting


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """One finding; none where nothing is copied."""
    if setting.recipe.storage.url is None:
        return []
    try:
        refuse(setting.recipe, is_new=not run_path.exists())
    except (StorageError, RunStateError) as error:
        return [Finding(Level.ERROR, "storage", str(error))]
    what = f"each commit is copied to {setting.recipe.storage.url}, which can be written to"
    return [Finding(Level.OK, "storage", what)]


def folder(run_path: Path, *, fresh: bool) -> list[Finding]:
    """Nothing, unless a run could not be begun in its folder.

    Args:
        run_path: the folder.
        fresh: whether a run that is there is to be deleted first.
    """
    try:
        if not fresh:
            refuse_taken(run_path)
        refuse_impossible(run_path)
    except (RunStateError, StorageError) as error:
        return [Finding(Level.ERROR, "folder", str(error))]
    return []


def refuse(recipe: Recipe, *, is_new: bool) -> None:
    """Refuse to start a run whose copy cannot be written, or would be another run's.

    Args:
        recipe: says where.
        is_new: nothing of the run is here yet.

    Raises:
        StorageError: it cannot be reached or written to.
        RunStateError: another run of this name is there already.
    """
    mirror = mirror_of(recipe)
    if mirror is None:
        return
    mirror.try_writing()
    num_there = mirror.num_committed()
    if is_new and num_there:
        raise RunStateError(
            f"storage.url {mirror.url}: holds a run of this name already, with {num_there} finished"
            f" rounds. Go on with it (`ouroloop resume {mirror.url}`), delete it, or choose another"
            " `name`."
        )
