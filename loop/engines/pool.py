"""Several engines of one model as one: work is sharded by problem, lost requests are asked again.

Every request carries its own seed, so neither the number of members nor the one that answers
changes a row. What the members are is for their `Site` to say: actors of a Ray cluster, or servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.supervised import RESTARTS, Report
from ouroloop.loop.errors import AnswerLostError, EngineError, EngineLostError
from ouroloop.loop.records import Completion, Prompt, Request, Scored

Answer = TypeVar("Answer")


class NoRoomError(EngineLostError):
    """There is no place for a member now; there may be one later, so it costs no restart."""


class Site(Protocol):
    """Where the members of a pool live.

    Attributes:
        report: called for what happens there.
    """

    report: Report

    async def open(self) -> int:
        """Get room for the members; how many there are."""
        ...

    def make(self, index: int) -> Engine:
        """A member, not started; EngineLostError from it means that it is gone as a whole."""
        ...

    async def close(self) -> None:
        """Give the room back. Safe to call twice."""
        ...


class State(Enum):
    """STARTING: loads for the first time. UP: proven. LOST: gone, and another is being started.

    OUT: lost too often for the checkpoint that is served.
    """

    STARTING = auto()
    UP = auto()
    LOST = auto()
    OUT = auto()


@dataclass
class _Seat:
    """The place of one member, and who sits there now."""

    index: int
    engine: Engine
    state: State = State.STARTING
    num_in_flight: int = 0
    num_restarts: int = 0
    starting: asyncio.Task[None] | None = None
    proof: str = ""


class PooledEngine:
    """An `Engine` of several members, all of which serve the same checkpoint.

    Args:
        site: where the members live.
        restarts: of each member for each checkpoint that is loaded, at most; and so often may one
            request lose the member that it was given to.
        start_s: seconds to wait for a first member when none is left.
    """

    def __init__(self, site: Site, restarts: int = RESTARTS, start_s: float = TimeLimits.start_s):
        self.site, self.restarts, self.start_s = site, restarts, start_s
        self._seats: list[_Seat] = []
        self._served: tuple[Path, Path | None] | None = None
        # problem -> seat: the requests of one problem share the beginnings of their prompts.
        self._shards: dict[str, _Seat] = {}
        self._failure: BaseException | None = None
        self._last_loss = ""
        self._changed = asyncio.Condition()

    @classmethod
    def at(cls, site: Site, config: Mapping[str, Any]) -> PooledEngine:
        """The engine of a site under the recipe's `supervision`; config: EngineConfig as a dict."""
        restarts = (config.get("supervision") or {}).get("restarts", RESTARTS)
        return cls(site, restarts, TimeLimits.of(config).start_s)

    @property
    def report(self) -> Report:
        """Called with (event, facts) when a member is lost, and for what happens at the site."""
        return self.site.report

    @report.setter
    def report(self, report: Report) -> None:
        self.site.report = report

    @property
    def num_up(self) -> int:
        """Members that are proven and can be asked."""
        return sum(seat.state is State.UP for seat in self._seats)

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Serve `checkpoint` with every member, each proven by itself. See `Engine.load`.

        A member that is lost meanwhile, or waits for room, joins later; one is enough to go on.

        Raises:
            EngineError: no member could be started.
        """
        await self._stop_starting()
        self._served, self._failure = (checkpoint, check), None
        self._shards.clear()
        try:
            if not self._seats:
                count = await self.site.open()
                self._seats = [_Seat(index, self.site.make(index)) for index in range(count)]
            for seat in self._seats:
                if seat.state is State.UP:
                    seat.state = State.STARTING
                # One that was lost before starts anew; nobody waits for it.
                elif seat.state is not State.STARTING:
                    seat.state = State.LOST
                    await self._replace(seat)
                seat.num_restarts = 0
                seat.starting = asyncio.create_task(self._start(seat))
            async with self._changed:
                await self._changed.wait_for(self._is_settled)
            await self._any_up()
            proven = [seat for seat in self._seats if seat.state is State.UP and seat.proof]
            return "; ".join(f"engine {seat.index}: {seat.proof}" for seat in proven)
        # Also on cancellation: a half-loaded pool must not answer the next request.
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: Request) -> Completion:
        """Sample one completion; those of one problem with one member. See `Engine.complete`."""
        # ROUND/SOURCE/PROBLEM/STAGE/INDEX: what is left of the stage is the problem.
        shard = request.id.rsplit("/", 2)[0]
        return await self._ask(lambda engine: engine.complete(request), shard)

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, completion) pairs. See `Engine.encode`."""
        return await self._ask(lambda engine: engine.encode(pairs))

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Log-probability and entropy along given texts. See `Engine.score`."""

        async def one(pair: tuple[Prompt, str]) -> Scored:
            # Each alone: of a thousand texts only those in flight are scored again.
            (scored,) = await self._ask(lambda engine: engine.score([pair]))
            return scored

        return list(await asyncio.gather(*(one(pair) for pair in pairs)))

    async def close(self) -> None:
        """End every member and give their room back."""
        # From here on a request that loses its member fails, instead of starting another.
        self._served = None
        await self._stop_starting()
        seats, self._seats = self._seats, []
        self._shards.clear()
        await asyncio.gather(*(seat.engine.close() for seat in seats), return_exceptions=True)
        await self.site.close()
        await self._tell()

    # -- asking -----------------------------------------------------------------------

    async def _ask(
        self, ask: Callable[[Engine], Awaitable[Answer]], shard: str | None = None
    ) -> Answer:
        """Ask a member, and another one when that is lost."""
        num_lost = 0
        while True:
            seat = await self._seat_for(shard)
            engine = seat.engine
            seat.num_in_flight += 1
            try:
                return await ask(engine)
            except EngineLostError as error:
                num_lost += 1
                self._lose(seat, engine, error)
                if num_lost > self.restarts:
                    raise EngineError(
                        f"a request lost {num_lost} engines, where supervision.restarts allows"
                        f" {self.restarts}: it may be what ends them. At last {error}"
                    ) from error
            except AnswerLostError as error:
                # Damaged on its way; the engine lives.
                num_lost += 1
                self.report("answer_lost", {"why": str(error)})
                if num_lost > self.restarts:
                    raise
            except EngineError:
                # Closed because another request saw its loss first.
                if seat.engine is engine or self._served is None:
                    raise
            finally:
                seat.num_in_flight -= 1

    async def _seat_for(self, shard: str | None) -> _Seat:
        """The member of this problem, or the one with the least to do."""
        await self._any_up()
        known = self._shards.get(shard) if shard is not None else None
        if known is not None and known.state is State.UP:
            return known
        up = [seat for seat in self._seats if seat.state is State.UP]
        least = min(up, key=lambda seat: seat.num_in_flight)
        if shard is not None:
            self._shards[shard] = least
        return least

    async def _any_up(self) -> None:
        """Wait until a member can be asked.

        Raises:
            EngineError: nothing is loaded, no member is left, or none came back in time.
        """
        if self._served is None:
            raise EngineError("the engine is not running: load a checkpoint first")
        if self.num_up and self._failure is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.start_s), self._changed:
                await self._changed.wait_for(self._is_decided)
        if self._failure is not None:
            raise self._failure
        if self._served is None:
            raise EngineError("the engine was closed while a request waited for it")
        if not self.num_up:
            raise EngineError(
                f"none of {len(self._seats)} engines is left to serve {self._served[0]}"
                f" (supervision.restarts: {self.restarts}, supervision.start_s: {self.start_s:g})."
                f" {self._last_loss}"
            )

    # -- starting, and starting again ---------------------------------------------------

    def _lose(self, seat: _Seat, engine: Engine, error: EngineLostError) -> None:
        """Start another member in the place of a lost one, unless that was done already."""
        # Of a hundred requests in flight all see the same death.
        if seat.engine is not engine or seat.state is not State.UP or self._served is None:
            return
        seat.state, self._last_loss = State.LOST, str(error)
        # The reason why it is needed at all is lost with it: say it before it is replaced.
        self.report("engine_lost", self._facts(seat, error))
        seat.starting = asyncio.create_task(self._start(seat, error))

    async def _start(self, seat: _Seat, lost: EngineLostError | None = None) -> None:
        """Serve the checkpoint at this seat, with as many members as it takes and is allowed."""
        assert self._served is not None
        try:
            while True:
                if lost is not None:
                    if not isinstance(lost, NoRoomError):
                        seat.num_restarts += 1
                    if seat.num_restarts > self.restarts:
                        seat.state = State.OUT
                        self.report("engine_given_up", self._facts(seat, lost))
                        return
                    await self._replace(seat)
                try:
                    seat.proof = await seat.engine.load(*self._served)
                except EngineLostError as error:
                    lost, self._last_loss = error, str(error)
                    seat.state = State.LOST
                    self.report("engine_lost", self._facts(seat, error))
                    await self._tell()
                else:
                    seat.state = State.UP
                    return
        # Refused, not lost, for instance by the weight-sync check: it ends the run, for a member
        # that is started again would serve the same weights.
        except Exception as error:
            self._failure = error
        finally:
            await self._tell()

    async def _replace(self, seat: _Seat) -> None:
        # Before the other is closed: what is in flight there is then asked again.
        old, seat.engine = seat.engine, self.site.make(seat.index)
        with suppress(EngineError):
            await old.close()

    async def _stop_starting(self) -> None:
        tasks = [seat.starting for seat in self._seats if seat.starting is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_settled(self) -> bool:
        """Whether every member is proven or known to be lost, or one was refused."""
        starting = any(seat.state is State.STARTING for seat in self._seats)
        return self._failure is not None or not starting

    def _is_decided(self) -> bool:
        """Whether a member can be asked, or there is nothing more to wait for."""
        is_over = self._failure is not None or self._served is None
        return is_over or self.num_up > 0 or all(s.state is State.OUT for s in self._seats)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _facts(self, seat: _Seat, error: EngineError) -> dict[str, Any]:
        return {
            "member": seat.index,
            "left": self.num_up,
            "of": len(self._seats),
            "why": str(error),
        }
