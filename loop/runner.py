"""Run one campaign from start to end: engine, progress, tracking, and what is printed.

The controller knows none of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop import interrupts
from ouroloop.loop.checks import copies, storage
from ouroloop.loop.checks.model import refuse
from ouroloop.loop.config import Recipe
from ouroloop.loop.controller import Campaign, Progress
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.registry import make_engine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.errors import EngineError, StorageError, TrainingError
from ouroloop.loop.folder.frozen import changed_versions, inputs_of, refuse_other_inputs
from ouroloop.loop.folder.mirror import Mirror, mirror_of
from ouroloop.loop.folder.store import Store
from ouroloop.loop.recipes.secrets import redacted
from ouroloop.loop.setup import Setting, prepare
from ouroloop.loop.trackers.process import safe_sync, start_sync
from ouroloop.loop.trackers.registry import has_trackers
from ouroloop.loop.views.endings import closing_text, is_halted, next_steps
from ouroloop.loop.views.notes import of_round
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.progress import LiveProgress, rounds_table
from ouroloop.loop.views.reader import read_round, read_run
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.decision.rule import Decision


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    path: Path
    decision: Decision
    halted: bool
    tracking_error: str | None


def run(recipe: Recipe, root: Path, fresh: bool = False) -> Outcome:
    """Start a run. Everything is checked before the first file is made.

    Raises:
        UserError: a wrong recipe, file or checkpoint, or a run of this name exists.
    """
    setting = prepare(recipe)
    refuse(setting)
    copies.refuse(setting)
    storage.refuse(recipe, is_new=not (root / recipe.name).exists() or fresh)
    if fresh:
        Store.delete(root, recipe.name)
    # Large checkpoints are hashed once here, before the folder is made.
    inputs = inputs_of(setting)
    store = Store.create(root, recipe, inputs[f"checkpoint {setting.recipe.model}"], inputs)
    interrupts.at_work(store.path, store.event)
    return _carry(store, setting)


def resume(path: Path, changed: Recipe | None = None) -> Outcome:
    """Finish a run that was cut off; stages that are finished are read, not repeated.

    Raises:
        UserError: no run there, held by another process, damaged where it was committed, `changed`
            differs from its recipe, or its problems or checkpoints are others.
    """
    # Locked first: a recipe that another process works on is not checked in vain.
    store = Store.open(path, changed)
    interrupts.at_work(store.path, store.event)
    try:
        setting = prepare(store.recipe)
        refuse_other_inputs(store, setting)
        warnings = changed_versions(store)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            interrupts.record()
        store.close()
        raise
    return _carry(store, setting, warnings)


def _carry(store: Store, setting: Setting, warnings: Sequence[str] = ()) -> Outcome:
    recipe = setting.recipe
    track = has_trackers(recipe.to_json()["tracking"])
    try:
        decision = _run_live(store, setting, warnings)
    except Exception as error:
        # What a person repairs outside the run; a wrong recipe is not gone on with.
        if isinstance(error, EngineError | TrainingError | StorageError):
            error.add_note(f"Go on with: {interrupts.resume_command(store.path)}")
        # Trackers still show what the last committed round left there: a run that is working.
        if track:
            _sync(store.path, recipe.name)
        raise
    data = read_run(store.path)
    print(printable(f"{rounds_table(data)}\n{closing_text(data)}"))
    halted = is_halted(data)
    if halted:
        print(printable(f"halted after round {decision.round}: {'; '.join(why(decision))}"))
    print(printable(next_steps(data)))
    return Outcome(store.path, decision, halted, _sync(store.path, recipe.name) if track else None)


def _run_live(store: Store, setting: Setting, warnings: Sequence[str]) -> Decision:
    """Every round, with progress on the terminal and in the store's events."""
    recipe = setting.recipe
    track = has_trackers(recipe.to_json()["tracking"])
    with LiveProgress(log=_to_events(store)) as progress:
        _introduce(store, setting, warnings, progress)

        def committed(number: int) -> None:
            # This one alone, and not kept: a long run would hold all that its rounds ever said.
            found = read_round(store.path, number)
            reasons = " ".join(str(reason) for reason in found.decision["reasons"][:2])
            progress.say(f"round {number}: {found.action}. {reasons}")
            for line in of_round(found):
                progress.say(line)
            if mirror is not None:
                _copy(mirror, store, progress)
            # In a process of its own: a tracker that hangs must not hold the run up.
            if track:
                start_sync(store.path)

        with contextlib.ExitStack() as stack:
            # An engine that cannot even be made is a failure of the run like any other.
            try:
                mirror = mirror_of(recipe)
                if mirror is not None:
                    stack.enter_context(mirror.held(store.path))
                engine = build_engine(recipe, store.path / "engine.log")
            except Exception as error:
                _record_failure(store, error)
                store.close()
                raise
            if isinstance(engine, SupervisedEngine | PooledEngine):
                engine.report = partial(_engine_event, store, progress)
            campaign = Campaign(store, setting, engine, progress, committed)
            return asyncio.run(_run_and_close(campaign))


def _introduce(
    store: Store, setting: Setting, warnings: Sequence[str], progress: LiveProgress
) -> None:
    """What is begun or gone on with, and what is unusual about it."""
    recipe = setting.recipe
    sizes = (
        f"{recipe.rounds} rounds on {len(setting.problems):,} problems,"
        f" {len(setting.probe_set.problems)} probed"
    )
    progress.say(f"{recipe.name}: {sizes}; {store.path}")
    for line in setting.choices:
        progress.say(line)
    for done in store.repairs:
        progress.say(f"damaged: {done}")
    for line in warnings:
        progress.say(f"warning: {line}")
        store.event("warning", what=line)


def _copy(mirror: Mirror, store: Store, progress: LiveProgress) -> None:
    """Copy what was committed; where the storage fails the next commit tries again."""
    try:
        store.event("copied", files=mirror.upload(store.path), to=mirror.url)
    except StorageError as error:
        store.event("warning", what=redacted(str(error)))
        progress.say(f"warning: {redacted(str(error))}")


def _engine_event(
    store: Store, progress: LiveProgress, event: str, facts: Mapping[str, Any]
) -> None:
    """What became of the engine's process, for people and for the run's events."""
    store.event(event, **{**facts, "why": redacted(str(facts["why"]))})
    # Of many lines the first says what happened, the others are the log's.
    why = str(facts["why"]).splitlines()[0]
    said = "an answer was lost, and is asked for again"
    if event == "engine_restarted":
        said = f"the engine is started again ({facts['restart']} of {facts['of']})"
    elif event in ("engine_lost", "engine_given_up"):
        left = f"{facts['left']} of {facts['of']} engines go on"
        said = (
            f"engine {facts['member']} is {event.removeprefix('engine_').replace('_', ' ')}; {left}"
        )
    progress.say(f"warning: {said}: {redacted(why)}")


def _sync(path: Path, name: str) -> str | None:
    """Bring the trackers up to date; returns, and prints, why one could not be."""
    failure = safe_sync(path)
    if failure:
        print(
            f"{failure}\nThe run is unharmed; `ouroloop sync {name}` tries again.", file=sys.stderr
        )
    return failure


def build_engine(recipe: Recipe, log_path: Path) -> Engine:
    """The recipe's engine, not started yet."""
    return make_engine(recipe.engine.kind, recipe.engine_config(), log_path)


async def carry(campaign: Campaign) -> Decision:
    """A campaign to its end, its beginning and end written to the store's events.

    The store and the trainer are closed, the engine is not.

    An interruption (Ctrl-C, a cancelled task) is no failure: such a run counts as stopped.
    """
    store = campaign.store
    setting = campaign.setting
    store.event("run_started", name=setting.recipe.name, choices=list(setting.choices))
    try:
        decision = await campaign.run()
        store.event("run_finished", action=decision.action)
        return decision
    except Exception as error:
        _record_failure(store, error)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupts.record()
        raise
    finally:
        campaign.warm.close()
        store.close()


def _record_failure(store: Store, error: Exception) -> None:
    # A disk that is full takes no event either: the error itself is what is shown.
    with contextlib.suppress(OSError):
        store.event("run_failed", error=redacted(f"{type(error).__name__}: {error}"))


def _to_events(store: Store) -> Progress:
    """Progress for the event log.

    The terminal's last stage ends after the store is closed: that is no event of the run.
    """

    def log(stage: str, done: int, total: int, note: str = "") -> None:
        if store.is_open:
            store.event("progress", stage=stage, done=done, total=total, note=note)

    return log


async def _run_and_close(campaign: Campaign) -> Decision:
    try:
        return await carry(campaign)
    finally:
        await campaign.engine.close()
