"""The Engine protocol: the only way the loop asks a model for text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ouroloop.loop.records import Completion, Prompt, Request, Scored


class Engine(Protocol):
    """A model that completes prompts.

    All methods are coroutines of one event loop; `complete` and `score` may run many at a time.
    """

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Serve `checkpoint` from now on, then prove it.

        Decode the weight-sync prompts greedily and compare.

        The first call starts the engine. Must not be called while a `complete` is in flight.

        Returns:
            How its weights were proven, in words; empty where nothing was compared.

        Raises:
            StaleWeightsError: the weight-sync check's answers are not those of this checkpoint.
            CheckpointError: the checkpoint cannot be used (no stop token, pickle weights, ...).
        """
        ...

    async def complete(self, request: Request) -> Completion:
        """Sample one completion. Same request, same weights: same answer (fp32).

        Raises:
            EngineError: the request or the engine failed.
        """
        ...

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, completion) texts exactly as `complete` would see them.

        The stop token ending the completion.
        """
        ...

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Log-probability and entropy along given (prompt, completion) texts.

        Tokenised as `encode` does.

        A text that is longer than the engine's context comes back empty: it costs itself, not the
        others.

        Raises:
            EngineError: an empty prompt, or the engine failed.
        """
        ...

    async def close(self) -> None:
        """Free everything. Safe to call twice."""
        ...
