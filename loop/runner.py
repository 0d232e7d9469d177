"""Carry one campaign from start to end: engine, progress, tracking, and what a person is told.

The controller knows none of these.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop import extensions
from ouroloop.loop.config import Recipe
from ouroloop.loop.controller import Campaign, Progress
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.records import Decision
from ouroloop.loop.setup import Setting, prepare, resolve_model
from ouroloop.loop.store import Store, sha256_of
from ouroloop.loop.trackers.mlflow import safe_sync, start_sync
from ouroloop.loop.views.progress import LiveProgress, closing_text, rounds_table
from ouroloop.loop.views.reader import read_run


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
    if fresh:
        Store.delete(root, recipe.name)
    store = Store.create(root, recipe, sha256_of(resolve_model(recipe.model)))
    return _carry(store, setting)


def resume(path: Path, changed: Recipe | None = None) -> Outcome:
    """Finish a run that was cut off; stages that are finished are read, not repeated.

    Raises:
        UserError: no run there, held by another process, or `changed` differs from its recipe.
    """
    store = Store.open(path, changed)
    try:
        setting = prepare(store.recipe)
    except BaseException:
        store.close()
        raise
    return _carry(store, setting)


def _carry(store: Store, setting: Setting) -> Outcome:
    recipe, track = setting.recipe, setting.recipe.tracking.mlflow
    trackers = extensions.build_all(extensions.TRACKER, recipe.tracking.trackers)
    with LiveProgress(log=_to_events(store)) as progress:
        sizes = (
            f"{recipe.rounds} rounds on {len(setting.problems):,} problems,"
            f" {len(setting.probe_set.problems)} probed"
        )
        progress.say(f"{recipe.name}: {sizes}; {store.path}")

        def committed(number: int) -> None:
            found = read_run(store.path).round(number)
            if found is not None:
                progress.say(
                    f"round {number}: {found.action}. "
                    + " ".join(str(r) for r in found.decision["reasons"][:2])
                )
            if track:
                start_sync(store.path)
            for tracker in trackers:
                _sync(tracker, store.path)

        engine = build_engine(recipe, store.path / "engine.log")
        decision = asyncio.run(
            _run_and_close(Campaign(store, setting, engine, progress, committed))
        )
    data = read_run(store.path)
    print(rounds_table(data))
    print(closing_text(data))
    halted = decision.action == "halt" and recipe.monitors.guard
    if halted:
        print(f"halted after round {decision.round}: {' '.join(decision.reasons)}")
    failure = safe_sync(store.path) if track else None
    if failure:
        print(
            f"{failure}\nThe run is unharmed; `ouroloop sync {recipe.name}` tries again.",
            file=sys.stderr,
        )
    return Outcome(store.path, decision, halted, failure)


def _sync(tracker: extensions.Tracker, run_path: Path) -> None:
    """A tracker of the user's own; its failure is logged and hurts nothing."""
    try:
        tracker.sync(run_path)
    except Exception:
        logging.getLogger(__name__).exception("tracker %s failed", type(tracker).__name__)


def build_engine(recipe: Recipe, log_path: Path) -> Engine:
    """The recipe's engine, not started yet."""
    make = engine_maker(recipe.engine.kind)
    return make({**recipe.engine.model_dump(), "lora": recipe.peft}, log_path)


async def carry(campaign: Campaign) -> Decision:
    """A campaign to its end, its beginning and end told in the store's events.

    The store is closed, the engine is not.
    """
    store = campaign.store
    store.event("run_started", name=campaign.setting.recipe.name)
    try:
        decision = await campaign.run()
        store.event("run_finished", action=decision.action)
        return decision
    except BaseException as error:
        store.event("run_failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        store.close()


def _to_events(store: Store) -> Progress:
    return lambda stage, done, total, note: store.event(
        "progress", stage=stage, done=done, total=total, note=note
    )


async def _run_and_close(campaign: Campaign) -> Decision:
    try:
        return await carry(campaign)
    finally:
        await campaign.engine.close()
