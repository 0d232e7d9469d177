"""When a server is asked: limits of rate, waits between attempts, and servers put aside."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
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
        start = max(time.monotonic(), self.free_at)
        self.free_at = start + units * self.seconds_each
        await asyncio.sleep(start - time.monotonic())

    def give_back(self, units: float) -> None:
        """Units that were taken and not used; negative: used beyond what was taken."""
        self.free_at -= units * self.seconds_each


class Turns:
    """Whose turn it is at one server: requests in flight, rates, and times when it is not asked.

    Attributes:
        num_waiting: requests that were given to the server and are not answered yet.
        free_at: monotonic seconds before which it is not asked.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.num_waiting = 0
        self.free_at = 0.0
        self._failures = 0
        self._slots = asyncio.Semaphore(limits.concurrency)
        rates = (limits.requests_per_minute, limits.tokens_per_minute)
        self._requests, self._tokens = (Pace(rate) if rate else None for rate in rates)

    @asynccontextmanager
    async def turn(self, num_tokens: float) -> AsyncIterator[Callable[[int | None], None]]:
        """A request's turn; yields a function that takes the tokens that were really used."""
        self.num_waiting += 1
        try:
            async with self._slots:
                while (wait := self.free_at - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if self._requests:
                    await self._requests.take(1)
                if self._tokens:
                    await self._tokens.take(num_tokens)
                yield lambda used: self._correct(num_tokens, used)
        finally:
            self.num_waiting -= 1

    def _correct(self, taken: float, used: int | None) -> None:
        if self._tokens and used is not None:
            self._tokens.give_back(taken - used)

    def succeeded(self) -> None:
        """An answer that can be used."""
        self._failures = 0

    def failed(self) -> None:
        """One more failure in a row: after a few the server is put aside for a while."""
        self._failures += 1
        if self._failures >= PATIENCE:
            self._not_before(self.limits.set_aside_seconds)

    def pause(self, seconds: float) -> None:
        """The server asked for a pause; up to the limit it gets one."""
        self._not_before(min(seconds, self.limits.retry_after_seconds))

    def _not_before(self, seconds: float) -> None:
        self.free_at = max(self.free_at, time.monotonic() + seconds)


def next_turn(turns: Sequence[Turns]) -> int:
    """The index of the server to ask: one that may be asked now, with the fewest requests."""
    now = time.monotonic()

    def cost(index: int) -> tuple[float, int]:
        return max(0.0, turns[index].free_at - now), turns[index].num_waiting

    return min(range(len(turns)), key=cost)


def backoff(attempt: int) -> float:
    """Seconds before the attempt of this number, from 1 on: exponential, with full jitter.

    Source: Brooker 2015, "Exponential backoff and jitter": the whole wait is drawn, so that
    requests which failed together do not come back together.
    """
    return random.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `retry-after` header asks for, given as such or as an HTTP date."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
