"""One engine in an actor of a Ray cluster, and the `Engine` that asks it from afar.

The actor holds the engine that a single machine would have, supervised as there: what happens to
the engine's own process is settled on its node. Only the loss of the whole actor, or of its node,
reaches whoever asks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ouroloop
from ouroloop.loop import errors
from ouroloop.loop.engines import moved
from ouroloop.loop.engines.pipe import CLOSE_SECONDS, MAX_PART_SECONDS, PARTS, TimeLimits
from ouroloop.loop.engines.pool import NoRoomError
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import RESTARTS, Report, SupervisedEngine
from ouroloop.loop.errors import EngineError, EngineLostError, OuroloopError
from ouroloop.loop.records import Completion, Prompt, Request, Scored

# An actor's own name for what happened to its engine's process: (event, facts).
Event = tuple[str, dict[str, Any]]


class EngineActor:
    """What runs on the node. Every answer is (result, None) or (None, (error's class, message)).

    Args:
        config: EngineConfig as a dict, its `kind` that of a local engine.
        log_path: the log of the engine's process; on storage that the node sees.
        worker: module to run as that process.
        moves: where checkpoints lie now (`moved.py`).
    """

    def __init__(self, config: Mapping[str, Any], log_path: Path, worker: str, moves: str = ""):
        os.environ[moved.VARIABLE] = moves
        self._events: list[Event] = []
        restarts = (config.get("supervision") or {}).get("restarts", RESTARTS)
        make = partial(ProcessEngine, config, log_path, worker)
        self._engine = SupervisedEngine(make, restarts, self._note)

    async def hello(self) -> dict[str, Any]:
        """The version of Ouroloop here, the node, and this process."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return {"version": ouroloop.__version__, "node": node, "pid": os.getpid()}

    async def ask(self, op: str, *arguments: Any) -> tuple[Any, tuple[str, str] | None]:
        """One method of the engine."""
        try:
            return await getattr(self._engine, op)(*arguments), None
        except OuroloopError as error:
            # As text: an error that is pickled may not be unpickled by another version.
            return None, (type(error).__name__, str(error))

    async def alive(self) -> list[Event]:
        """A sign of life, and what happened since the last one."""
        events, self._events = self._events, []
        return events

    def _note(self, event: str, facts: Mapping[str, Any]) -> None:
        self._events.append((event, dict(facts)))


class ActorEngine:
    """An `Engine` that asks an actor. EngineLostError: the actor or its node is gone.

    Args:
        create: makes the actor; it may have to wait for its place.
        limits: for the place, and for signs of life while requests wait.
        report: called with (event, facts) for what happens to the engine's process.
    """

    def __init__(self, create: Callable[[], Any], limits: TimeLimits, report: Report):
        self._create, self._limits, self._report = create, limits, report
        self._actor: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._num_waiting = 0
        self._silence = ""

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Serve `checkpoint` and prove it. See `Engine.load`.

        Raises:
            NoRoomError: the cluster had no place for the actor, for as long as a start may take.
        """
        if self._actor is None:
            self._actor = self._create()
            await self._greet()
        return str(await self._ask("load", checkpoint, check))

    async def complete(self, request: Request) -> Completion:
        """Sample one completion. See `Engine.complete`."""
        completion: Completion = await self._ask("complete", request)
        return completion

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, completion) pairs. See `Engine.encode`."""
        return list(await self._ask("encode", list(pairs)))

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Log-probability and entropy along given texts. See `Engine.score`."""
        return list(await self._ask("score", list(pairs)))

    async def close(self) -> None:
        """End the actor and the engine in it."""
        actor, self._actor = self._actor, None
        if self._watcher is not None:
            self._watcher.cancel()
        if actor is None:
            return
        import ray

        # Asked politely first: vLLM's own processes free the GPU's memory only when they end well.
        with suppress(TimeoutError, ray.exceptions.RayError):
            await asyncio.wait_for(_answer(actor.ask.remote("close")), CLOSE_SECONDS)
            self._pass_on(await asyncio.wait_for(_answer(actor.alive.remote()), CLOSE_SECONDS))
        _kill(actor)

    async def _greet(self) -> None:
        """Wait until the actor is there, and see that it runs the same Ouroloop."""
        limit = self._limits.start_s
        try:
            found = await asyncio.wait_for(self._call("hello"), limit)
        except TimeoutError:
            why = f"the Ray cluster had no place for an engine for {limit:g} s"
            raise NoRoomError(f"{why} (supervision.start_s)") from None
        if found["version"] != ouroloop.__version__:
            raise EngineError(
                f"node {found['node']} has Ouroloop {found['version']}, this machine"
                f" {ouroloop.__version__}. Install the same version on every node."
            )
        self._watcher = asyncio.create_task(self._watch())

    async def _ask(self, op: str, *arguments: Any) -> Any:
        """One method of the actor's engine.

        Raises:
            EngineLostError: the actor is gone.
            OuroloopError: what its engine says.
        """
        self._num_waiting += 1
        try:
            result, error = await self._call("ask", op, *arguments)
        finally:
            self._num_waiting -= 1
        if error is not None:
            name, message = error
            raise errors.named(name, message, EngineError)
        return result

    async def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        actor = self._actor
        if actor is None:
            raise EngineLostError("the engine's actor was ended")
        try:
            return await _answer(getattr(actor, method).remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            # A bug of ours or of a library, not a loss: another actor would do the same.
            raise EngineError(f"the engine's actor failed: {error}") from error
        except ray.exceptions.RayError as error:
            why = self._silence or " ".join(str(error).split())
            raise EngineLostError(f"the engine's actor was lost: {why}") from None

    async def _watch(self) -> None:
        """Ask for signs of life, and end an actor that gives none while somebody waits for it.

        Ray notices a process that ended and a node that is gone, not a process that hangs. The
        engine's own process is watched by the actor, so these limits count for the actor alone.
        """
        limit = self._limits.silence_s
        while True:
            await asyncio.sleep(min(limit / PARTS, MAX_PART_SECONDS))
            if not self._num_waiting:
                continue
            try:
                events = await asyncio.wait_for(self._call("alive"), limit)
            except TimeoutError:
                self._silence = (
                    f"it gave no sign of life for {limit:g} s (supervision.engine_silence_s) while"
                    f" {self._num_waiting} requests waited, and was ended."
                )
                _kill(self._actor)
                return
            except EngineError:
                # Those who wait see it by themselves.
                return
            self._pass_on(events)

    def _pass_on(self, events: Sequence[Event]) -> None:
        for event, facts in events:
            self._report(event, facts)


async def _answer(reference: Any) -> Any:
    """What an object reference stands for; as a coroutine, which `wait_for` can cancel."""
    return await reference


def _kill(actor: Any) -> None:
    """End an actor at once; one that is gone stays gone."""
    import ray

    with suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)
