"""An engine in a child process of its own.

Its memory goes back to the system when it ends, and a crash ends it, not the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ouroloop.loop.engines import weight_sync, weight_sync_proof
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint, same_weights
from ouroloop.loop.engines.pipe import Pipe, TimeLimits
from ouroloop.loop.errors import (
    AnswerLostError,
    CheckpointError,
    EngineError,
    EngineLostError,
    PromptTooLongError,
)
from ouroloop.loop.records import Completion, Prompt, Request, Scored

Record = TypeVar("Record", Completion, Scored)


class ProcessEngine:
    """An `Engine` served by `python -m ouroloop.loop.engines.worker`.

    Args:
        config: EngineConfig as a dict, and optionally `lora` (the recipe's `peft`) so that
            adapters can be served, and `supervision` for the time limits.
        log_path: what the child prints is appended here; errors quote its last lines.
        worker: module to run as the child.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        log_path: Path,
        worker: str = "ouroloop.loop.engines.worker",
    ):
        self.config = dict(config)
        self.log_path = Path(log_path)
        self.worker = worker
        self._slots = asyncio.Semaphore(int(self.config.get("concurrency", 512)))
        self._pipe: Pipe | None = None
        self._served: Checkpoint | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None where there is no child."""
        return self._pipe.child.pid if self._is_running and self._pipe else None

    @property
    def _is_running(self) -> bool:
        return self._pipe is not None and self._pipe.is_open

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Serve `checkpoint` and prove it. See `Engine.load`.

        check: the stored weight-sync check; by default weight_sync.json in the checkpoint's folder.
        Any failure closes the engine: nothing is sampled from weights that were not proven.
        """
        found = check_checkpoint(checkpoint)
        proof = self._read_check(found, check)
        try:
            # Another architecture or tokenizer cannot be swapped in: that engine is replaced.
            if self._is_running and (
                self.config.get("swap") == "respawn"
                or self._served is None
                or found.signature != self._served.signature
            ):
                await self.close()
            before: list[tuple[float, ...]] = []
            if not self._is_running:
                await self._start(found)
            elif proof is not None:
                before = await weight_sync_proof.prime(self, proof)
                # The same weights again rightly answer as before.
                if self._served is not None and same_weights(self._served, found):
                    before = []
            served = await self._call("load", checkpoint=str(found.path))
            self._served = found
            if proof is not None:
                weight_sync_proof.check_covers(proof, served["block_size"])
                return await weight_sync_proof.verify(self, proof, str(found.path), before)
            return ""
        # Also on cancellation: a half-loaded engine must not answer the next request.
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: Request) -> Completion:
        """Sample one completion; at most `concurrency` are in flight. See `Engine.complete`."""
        async with self._slots:
            # Not `asdict`, which copies a prompt turn by turn and takes longer than all the rest.
            asked = {**vars(request), "sampling": vars(request.sampling)}
            fields = await self._call("complete", request=asked)
        return _record(Completion, fields, ("prompt_token_ids", "token_ids", "logprobs"))

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, completion) pairs. See `Engine.encode`."""
        encoded = await self._call("encode", pairs=list(pairs))
        return [(prompt_ids, completion_ids) for prompt_ids, completion_ids in encoded]

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Log-probability and entropy along given texts; at most `concurrency` are in flight.

        See `Engine.score`.
        """

        async def one(prompt: Prompt, text: str) -> Scored:
            try:
                async with self._slots:
                    fields = await self._call("score", prompt=prompt, text=text)
            # A text that does not fit costs itself, not the others: it comes back empty.
            except PromptTooLongError:
                return Scored((), (), (), exact=False, weight_version="")
            return _record(Scored, fields, ("token_ids", "logprobs", "entropies"))

        return list(await asyncio.gather(*(one(prompt, text) for prompt, text in pairs)))

    async def score_ids(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability (nats) of each token but the first, given those before it.

        Raises:
            PromptTooLongError: the text does not fit.
            EngineError: the engine failed.
        """
        async with self._slots:
            fields = await self._call("score_ids", token_ids=list(token_ids))
        return tuple(fields["logprobs"])

    async def close(self) -> None:
        """End the child and everything it started."""
        # First of all, so that a second close() and late answers find no child.
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            await pipe.close()

    def _read_check(
        self, checkpoint: Checkpoint, check: Path | None
    ) -> weight_sync.WeightSyncCheck | None:
        if not self.config.get("weight_sync_check", True):
            return None
        path = check or checkpoint.path / weight_sync.FILE_NAME
        if not path.exists():
            raise CheckpointError(
                f"{path}: no weight-sync check, so nothing could prove that the engine serves"
                f" {checkpoint.path}. Make one with `{weight_sync.COMMAND} {checkpoint.path}"
                f" {path}`, or set engine.weight_sync_check: false."
            )
        proof = weight_sync.read(path)
        dtype = self.config.get("dtype", "float32")
        if proof.dtype != dtype:
            raise CheckpointError(
                f"{path}: this weight-sync check was computed in {proof.dtype}, the engine runs in"
                f" {dtype}. Make one with `{weight_sync.COMMAND} {checkpoint.path} OUT"
                f" --dtype {dtype}`."
            )
        return proof

    async def _start(self, checkpoint: Checkpoint) -> None:
        await self.close()
        settings = {"kind": self.config.get("kind", "vllm"), "config": self.config}
        limits = TimeLimits.of(self.config)
        self._pipe = await Pipe.open(
            self.worker, settings, self.log_path, limits, checkpoint.weight_bytes
        )

    async def _call(self, op: str, **fields: Any) -> Any:
        missing = "the engine is not running: load a checkpoint first"
        if self._pipe is None:
            raise EngineError(missing)
        if not self._pipe.is_open:
            raise EngineLostError(f"{missing}. {self._pipe.obituary()}")
        return await self._pipe.call(op, **fields)


def _record(kind: type[Record], fields: Any, sequences: Sequence[str]) -> Record:
    """An answer as its record; JSON has no tuples.

    Raises:
        AnswerLostError: it is not of this form.
    """
    try:
        tuples = {key: tuple(fields[key]) for key in sequences}
        return kind(**{**fields, **tuples})
    except (TypeError, KeyError) as error:
        text = f"an answer of the engine is no {kind.__name__}: {type(error).__name__}: {error}"
        raise AnswerLostError(text) from None
