"""An engine that is started again when it dies or falls silent, and asked again for what was lost.

Every request carries its own seed, so an answer does not depend on when it was asked: only the
requests in flight are repeated, and the run does not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.errors import AnswerLostError, EngineError, EngineLostError
from ouroloop.loop.records import Completion, Prompt, Request, Scored

# Where nobody gives a recipe; the same as the default of its `supervision.restarts`.
RESTARTS = 3
Answer = TypeVar("Answer")
Report = Callable[[str, Mapping[str, Any]], None]
"""Called with (event, facts) for what happens to an engine."""


def report_to_log(event: str, facts: Mapping[str, Any]) -> None:
    """The report of an engine that nobody listens to."""
    logging.getLogger(__name__).warning("%s: %s", event, dict(facts))


class SupervisedEngine:
    """An `Engine` around one `ProcessEngine` after the other.

    Args:
        make: makes one, not started; each proves its weights before anything is asked of it.
        restarts: of the process for each checkpoint that is loaded, at most; and of a request whose
            answer was damaged.
        report: called at each.
    """

    def __init__(
        self,
        make: Callable[[], ProcessEngine],
        restarts: int = RESTARTS,
        report: Report = report_to_log,
    ):
        self.make, self.restarts, self.report = make, restarts, report
        self.inner = make()
        self._served: tuple[Path, Path | None] | None = None
        self._num_restarts, self._proof = 0, ""
        # Of a hundred requests in flight all see the same death: the first one restarts, the others
        # find `inner` replaced and ask that.
        self._lock = asyncio.Lock()

    @classmethod
    def of(cls, config: Mapping[str, Any], log_path: Path) -> SupervisedEngine:
        """As the registry makes engines; `config` holds the recipe's section `supervision`."""
        restarts = (config.get("supervision") or {}).get("restarts", RESTARTS)
        return cls(partial(ProcessEngine, config, log_path), restarts)

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Serve `checkpoint` and prove it. See `Engine.load`."""
        # Anew for each checkpoint: over a hundred rounds a few losses are no sign of a fault.
        self._served, self._num_restarts = (checkpoint, check), 0
        try:
            self._proof = await self.inner.load(checkpoint, check)
        except EngineLostError as error:
            await self._restart(self.inner, error)
        except BaseException:
            # Refused, not lost, for instance by the weight-sync check: a restart would serve the
            # same weights again.
            self._served = None
            raise
        return self._proof

    async def complete(self, request: Request) -> Completion:
        """Sample one completion. See `Engine.complete`."""
        return await self._ask(lambda: self.inner.complete(request))

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, completion) pairs. See `Engine.encode`."""
        return await self._ask(lambda: self.inner.encode(pairs))

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Log-probability and entropy along given texts. See `Engine.score`."""

        async def one(pair: tuple[Prompt, str]) -> Scored:
            # Each alone: of a thousand texts only those in flight are scored again.
            (scored,) = await self._ask(lambda: self.inner.score([pair]))
            return scored

        return list(await asyncio.gather(*(one(pair) for pair in pairs)))

    async def close(self) -> None:
        """End the child and everything it started."""
        # From here on a request that loses its engine fails: a process that it started would be
        # one that nobody ends.
        self._served = None
        await self.inner.close()

    async def _ask(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until there is an answer, or an error that asking again would not change."""
        num_lost = 0
        while True:
            asked = self.inner
            try:
                return await ask()
            except EngineLostError as error:
                await self._restart(asked, error)
            except AnswerLostError as error:
                num_lost += 1
                self.report("answer_lost", {"why": str(error)})
                if num_lost > self.restarts:
                    raise

    async def _restart(self, asked: ProcessEngine, lost: EngineLostError) -> None:
        """Start another in the place of `asked`, unless another request did so already.

        Until its weights are proven all requests go to the old one, which refuses them as lost.

        Raises:
            EngineError: it was lost more often than `restarts`.
        """
        async with self._lock:
            while asked is self.inner:
                if self._served is None:
                    raise lost
                self._refuse_more(lost)
                self._num_restarts += 1
                facts = {"restart": self._num_restarts, "of": self.restarts, "why": str(lost)}
                self.report("engine_restarted", facts)
                fresh = self.make()
                try:
                    self._proof = await fresh.load(*self._served)
                except EngineLostError as error:
                    lost = error
                except BaseException:
                    # Nothing is asked of weights that could not be proven.
                    self._served = None
                    await fresh.close()
                    raise
                else:
                    self.inner = fresh
                    await asked.close()

    def _refuse_more(self, lost: EngineLostError) -> None:
        if self._num_restarts < self.restarts:
            return
        assert self._served is not None
        config = self.inner.config
        raise EngineError(
            f"engine {config.get('kind')} serving {self._served[0]}: lost"
            f" {self._num_restarts + 1} times, where supervision.restarts allows {self.restarts}"
            " restarts for each checkpoint. Look at its log for the cause. If it ran out of memory,"
            " lower engine.max_num_seqs or engine.gpu_memory_utilization; if it is only slow, raise"
            f" supervision.engine_silence_s. At last {lost}"
        ) from lost
