"""One engine's child process from its start to its end, and what waits for its answers.

Nothing that the child does, or no longer does, may let its parent wait for ever: the end of the
process, silence, damaged lines and answers without end all reach those who wait as errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop import errors
from ouroloop.loop.engines import children
from ouroloop.loop.engines.frames import Frame, Garbled, Oversized, frames
from ouroloop.loop.errors import (
    AnswerLostError,
    AnswerTooLargeError,
    EngineError,
    EngineLostError,
)

# One line holds the log-probabilities of a whole text, a few MB at most; asyncio allows 64 KiB.
LINE_LIMIT = 2**28
CLOSE_SECONDS = 15.0
# What is left to do when a process has ended or was killed; only the system can make it longer.
END_SECONDS = 5.0
# A limit is counted in parts. While this process is busy elsewhere, lines wait in the pipe unread:
# that counts as one part of silence, however long it was.
PARTS = 8
MAX_PART_SECONDS = 5.0


@dataclass(frozen=True)
class TimeLimits:
    """Seconds without a sign of progress, at most: while a checkpoint is loaded, and otherwise."""

    start_s: float = 1800.0
    silence_s: float = 600.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TimeLimits:
        """Those of the recipe's section `supervision`, which an engine's settings hold."""
        given = config.get("supervision")
        return cls(given["start_s"], given["engine_silence_s"]) if given else cls()


@dataclass(frozen=True)
class _Waiting:
    op: str
    future: asyncio.Future[Any]


class Pipe:
    """A running child and the requests in flight. Made by `Pipe.open`; ends once, for good.

    Attributes:
        num_garbled: lines that could not be read so far.
        is_open: whether requests can be sent.
    """

    def __init__(self, child: asyncio.subprocess.Process, log_path: Path, limits: TimeLimits):
        self.child = child
        self.log_path = log_path
        self.limits = limits
        self.num_garbled = 0
        self.is_open = True
        self._waiting: dict[int, _Waiting] = {}
        self._next_id = 0
        self._num_signs = 0
        self._silence = ""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]

    @classmethod
    async def open(
        cls,
        worker: str,
        settings: Mapping[str, Any],
        log_path: Path,
        limits: TimeLimits,
        weight_bytes: int | None = None,
    ) -> Pipe:
        """Start `python -m worker`, whose first line is `settings`."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                worker,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_LIMIT,
                # A process group of its own: whatever it starts can be ended with it.
                start_new_session=True,
                env=children.environment(weight_bytes),
            )
        children.started(child.pid)
        pipe = cls(child, log_path, limits)
        await pipe._send(settings)
        return pipe

    async def call(self, op: str, **fields: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            EngineLostError: the process ended, or was ended for its silence.
            AnswerLostError: the answer was damaged on its way.
            OuroloopError: what the child says.
        """
        if not self.is_open:
            raise EngineLostError(self.obituary())
        self._next_id += 1
        key, future = self._next_id, asyncio.get_running_loop().create_future()
        self._waiting[key] = _Waiting(op, future)
        try:
            await self._send({"id": key, "op": op, **fields})
            return await future
        finally:
            self._waiting.pop(key, None)
            if future.done() and not future.cancelled():
                # Marked as seen: where sending failed, nobody awaits it.
                future.exception()

    async def close(self) -> None:
        """End the child and everything it started."""
        # Asked politely first: vLLM's own processes free the GPU's memory only when they end well.
        if self.is_open:
            with contextlib.suppress(EngineError, ConnectionError, TimeoutError):
                await asyncio.wait_for(self._send({"id": -1, "op": "close"}), CLOSE_SECONDS)
                await asyncio.wait_for(self.child.wait(), CLOSE_SECONDS)
        self._end(EngineError("the engine was closed while the request was in flight"))
        reader, watcher = self._tasks
        watcher.cancel()
        # A process that left the group may hold the pipe open: nobody waits for that one.
        ends = {reader, asyncio.ensure_future(self.child.wait())}
        await asyncio.wait(ends, timeout=END_SECONDS)
        reader.cancel()
        # A turn of the loop, in which it sees the ends of the pipes.
        await asyncio.sleep(0)

    def obituary(self) -> str:
        """How the process ended, and the end of its log."""
        what = self._silence or f"{children.how_it_ended(self.child.returncode)}."
        return (
            f"the engine's process {what} The last lines of its log"
            f" {self.log_path}:\n{children.last_lines(self.log_path)}"
        )

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self.child.stdin is not None
        try:
            # asyncio itself only warns of it, at every write.
            if self.child.stdin.is_closing():
                raise ConnectionResetError
            self.child.stdin.write(json.dumps(message).encode() + b"\n")
            await self.child.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise EngineLostError(self.obituary()) from None

    async def _read(self) -> None:
        """Hand each answer to whoever waits for it; at the end of the stream, the news to all."""
        assert self.child.stdout is not None
        try:
            async for frame in frames(self.child.stdout):
                self._take(frame)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.child.wait(), END_SECONDS)
        finally:
            self._end()

    async def _watch(self) -> None:
        """End a child that gives no sign of progress while somebody waits for it, or is dead."""
        silent_s, num_seen, is_dead = 0.0, -1, False
        while self.is_open:
            # A load is one call into a library, which gives no sign before it is over: it has a
            # limit of its own, and a request in flight beside it waits as long.
            is_loading = any(waiting.op == "load" for waiting in self._waiting.values())
            limit_s = self.limits.start_s if is_loading else self.limits.silence_s
            part_s = min(limit_s / PARTS, MAX_PART_SECONDS)
            await asyncio.sleep(part_s)
            # Usually `_read` sees the end of its stream. Not where a process that it has forked (on
            # a GPU vLLM's core) outlives it and holds the stream open: after a part more, in which
            # last answers are read, all of it is ended.
            if is_dead:
                self._end()
                return
            is_dead = self.child.returncode is not None
            if not self._waiting or self._num_signs != num_seen:
                silent_s, num_seen = 0.0, self._num_signs
                continue
            # Added up, not read from a clock: a machine that slept, or a parent that was busy for
            # minutes, adds one part.
            silent_s += part_s
            if silent_s >= limit_s:
                key = "start_s" if is_loading else "engine_silence_s"
                self._silence = (
                    f"gave no sign of progress for {limit_s:g} s (supervision.{key}) while"
                    f" {len(self._waiting)} requests waited, and was ended."
                )
                self._end()

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Oversized):
            self._refuse(frame)
        elif isinstance(frame, Garbled):
            self._note(frame.head)
        elif "beat" in frame:
            self._num_signs += 1
        elif isinstance(frame.get("idle"), int):
            self._give_up(frame["idle"])
        elif isinstance(frame.get("id"), int) and ("ok" in frame or "error" in frame):
            self._num_signs += 1
            self._answer(frame)
        else:
            self._note(repr(frame)[:200].encode())

    def _answer(self, frame: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(frame["id"])
        # Its caller was cancelled; the answer is nobody's.
        if waiting is None or waiting.future.done():
            return
        if "error" in frame:
            message = str(frame.get("message"))
            error = errors.named(str(frame["error"]), message, EngineError)
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(frame["ok"])

    def _refuse(self, frame: Oversized) -> None:
        """An answer without end costs its own request."""
        self._note(frame.head)
        if frame.id is not None:
            self._num_signs += 1
            text = f"the engine's answer is larger than {LINE_LIMIT:,} bytes and was thrown away"
            self._fail(frame.id, AnswerTooLargeError(text))

    def _give_up(self, last_id: int) -> None:
        """The child has answered all that it was sent up to here, so what still waits was lost."""
        # Ids only grow: a higher one was sent after the child had said that it is idle.
        for key in [key for key in self._waiting if key <= last_id]:
            text = f"an answer of the engine could not be read; see {self.log_path}"
            self._fail(key, AnswerLostError(text))

    def _fail(self, key: int, error: EngineError) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_exception(error)

    def _note(self, head: bytes) -> None:
        """Count a line that could not be read, and log it where the engine's own words are."""
        self.num_garbled += 1
        logging.getLogger(__name__).warning(
            "line %d of the engine's pipe that could not be read (%s): %.60r",
            self.num_garbled,
            self.log_path,
            head,
        )
        with contextlib.suppress(OSError), self.log_path.open("ab") as log:
            log.write(f"ouroloop: a line that could not be read: {head!r}\n".encode())

    def _end(self, error: EngineError | None = None) -> None:
        """Nothing of the child remains, and all who wait learn why. Again, it does nothing."""
        self.is_open = False
        children.kill_group(self.child.pid)
        if self.child.stdin is not None:
            self.child.stdin.close()
        for key in list(self._waiting):
            self._fail(key, error or EngineLostError(self.obituary()))
