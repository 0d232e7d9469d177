"""When a server is asked: limits of rate, waits between attempts, and servers put aside."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

# Seconds: the first wait between two attempts at most, and any.
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
# Failures in a row before a server is put aside: one lost answer among many says little.
PATIENCE = 3


@dataclass(frozen=True)
class Limits:
    """How a server is asked: the recipe's `servers`, which says what each field means."""

    timeout_seconds: float
    connect_seconds: float
    attempts: int
    retry_after_seconds: float
    set_aside_seconds: float
    concurrency: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    check_model: bool


class Pace:
    """At most so many units a minute, spread evenly: a burst would break a server's own limit."""

    def __init__(self, per_minute: int) -> None:
        self.seconds_each = 60.0 / per_minute
        self.free_at = 0.0

    async def take(self, units: float) -> None:
        """Wait until these units may be used."""
        # Before the wait, not after it: who comes meanwhile stands behind this one.
        # Never before now: minutes in which nothing was asked are not saved up for a burst.
        start = max(time.monotonic(), self.free_at)
        self.free_at = start + units * self.seconds_each
        await asyncio.sleep(start - time.monotonic())

    def give_back(self, units: float) -> None:
        """Units that were taken and not used; negative: used beyond what was taken."""
        self.free_at -= units * self.seconds_each


class Turns:
    """One server's rates, requests in flight, and times when it is not asked.

    Attributes:
        num_in_flight: requests that it was given and has not answered yet.
        free_at: monotonic seconds before which it is not asked.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.num_in_flight = 0
        self.free_at = 0.0
        self._failures = 0
        rates = (limits.requests_per_minute, limits.tokens_per_minute)
        self._requests, self._tokens = (Pace(rate) if rate else None for rate in rates)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be in flight."""
        return self.num_in_flight < self.limits.concurrency

    async def pace(self, num_tokens: float) -> None:
        """Wait until the rates allow a request of so many tokens."""
        # One after the other: the later of the two times is the one that counts.
        if self._requests:
            await self._requests.take(1)
        if self._tokens:
            await self._tokens.take(num_tokens)

    def correct(self, taken: float, used: int | None) -> None:
        """So many tokens were really used, where the server says."""
        if self._tokens and used is not None:
            self._tokens.give_back(taken - used)

    def succeeded(self) -> None:
        """An answer that can be used."""
        self._failures = 0

    def failed(self) -> None:
        """One more failure in a row: after a few the server is put aside for a while."""
        self._failures += 1
        # Also at every further one: a server that comes back has to answer once to be trusted.
        if self._failures >= PATIENCE:
            self._not_before(self.limits.set_aside_seconds)

    def pause(self, seconds: float) -> None:
        """The server asked for a pause; up to the limit it gets one."""
        self._not_before(min(seconds, self.limits.retry_after_seconds))

    def _not_before(self, seconds: float) -> None:
        self.free_at = max(self.free_at, time.monotonic() + seconds)


class Queue:
    """Requests that wait for any of several servers.

    One is given to a server when it can be asked, not before: it would wait with a server that is
    put aside meanwhile.
    """

    def __init__(self, turns: Sequence[Turns]) -> None:
        self.turns = turns
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """A request's turn; yields the index of the server to ask."""
        # Nothing is awaited between the choice and the count, so no two take one place.
        index = await self._free()
        self.turns[index].num_in_flight += 1
        try:
            yield index
        finally:
            self.turns[index].num_in_flight -= 1
            async with self._changed:
                self._changed.notify()

    async def _free(self) -> int:
        while True:
            now = time.monotonic()
            roomy = [index for index, each in enumerate(self.turns) if each.has_room]
            free = [index for index in roomy if self.turns[index].free_at <= now]
            # The one with the fewest: servers of different speed share the work by it.
            if free:
                return min(free, key=lambda index: self.turns[index].num_in_flight)
            # Until a server is asked again, or has answered a request.
            waits = [self.turns[index].free_at - now for index in roomy]
            with suppress(TimeoutError):
                async with asyncio.timeout(min(waits, default=None)), self._changed:
                    await self._changed.wait()


def backoff(attempt: int) -> float:
    """Seconds before the attempt of this number, from 1 on: exponential, with full jitter.

    Source: Brooker 2015, "Exponential backoff and jitter": the whole wait is drawn, so that
    requests which failed together do not come back together.
    """
    return random.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `retry-after` header asks for, given as such or as an HTTP date."""
    value = headers.get("retry-after", "")
    # A time that is over, or NaN, is no wait: max() takes its first argument then.
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
