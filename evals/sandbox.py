"""Killable workers for untrusted text.

Spawned processes with limits on CPU time and memory, replaced when they hang or die.

A worker imports one function (its module imports what is heavy, so that no call pays for it) and
calls it. Arguments go in pickled (they are ours); results come back as JSON, because what comes out
of a process that handled hostile text is not to be unpickled.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import pickle
import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn

from ouroloop.evals.errors import DataError, SandboxError, SandboxTimeout

# A worker's imports may take so long on a busy machine; this time is not the text's fault.
_START_SECONDS = 120.0
_CACHE_SIZE = 50_000


@dataclass
class Sandbox:
    """Calls one function on untrusted arguments.

    In `num_workers` processes that start when first needed. Thread-safe.

    Args:
        function: importable as "package.module:name"; its result must be a JSON value.
        timeout_seconds: wall-clock limit per call; also the limit of CPU time, rounded up.
        memory_bytes: address space that a worker may reach after its imports.
        num_workers: processes at most.
    """

    function: str
    timeout_seconds: float = 3.0
    memory_bytes: int = 4 * 2**30
    num_workers: int = 1
    _idle: queue.LifoQueue[_Worker | None] = field(init=False, repr=False)
    _cache: OrderedDict[bytes, Any] = field(init=False, repr=False, default_factory=OrderedDict)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.timeout_seconds <= 0 or self.num_workers < 1:
            raise ValueError(
                "Sandbox: needs timeout_seconds > 0 and num_workers >= 1, got"
                f" {self.timeout_seconds} and {self.num_workers}"
            )
        self._idle = queue.LifoQueue()
        # None stands for a worker that has not been started.
        for _ in range(self.num_workers):
            self._idle.put(None)

    def call(self, *args: Any) -> Any:
        """The function's result on `args`; answers and failures are cached by their arguments.

        Raises:
            SandboxTimeout: the call took longer than `timeout_seconds`; its worker was killed.
            SandboxError: the worker died (memory, CPU time, crash) or the function raised.
            DataError: the function cannot be imported (an extra is not installed).
        """
        key = pickle.dumps(args)
        with self._lock:
            known = self._cache.get(key)
        if known is None:
            known = self._ask(key)
            with self._lock:
                self._cache[key] = known
                if len(self._cache) > _CACHE_SIZE:
                    self._cache.popitem(last=False)
        if "result" in known:
            return known["result"]
        raise (SandboxTimeout if known["kind"] == "timeout" else SandboxError)(
            f"{self.function}: {known['error']}"
        )

    def close(self) -> None:
        """End the workers; a later call starts new ones."""
        for _ in range(self.num_workers):
            worker = self._idle.get()
            if worker is not None:
                worker.kill()
            self._idle.put(None)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, request: bytes) -> dict[str, Any]:
        """One exchange with a worker; a worker that does not answer properly is killed."""
        worker = self._idle.get()
        try:
            worker = worker or _Worker(self.function, self.timeout_seconds, self.memory_bytes)
            reply = worker.ask(request, self.timeout_seconds)
            # A function that merely raised has left its process usable.
            if reply.get("kind") in ("timeout", "died"):
                worker.kill()
                worker = None
            return reply
        except BaseException:
            if worker is not None:
                worker.kill()
            worker = None
            raise
        # The slot always goes back, also when the worker is gone: the next call starts a new one.
        finally:
            self._idle.put(worker)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, function: str, timeout_seconds: float, memory_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, function, timeout_seconds, memory_bytes), daemon=True
        )
        self.process.start()
        # Or the pipe would never report its end when the worker dies.
        theirs.close()
        ready = self._read(_START_SECONDS)
        if ready.get("result") != "ready":
            self.kill()
            raise DataError(
                f"ouroloop.evals.sandbox: cannot use {function}: {ready['error']}. "
                "Install the extra that brings it: pip install 'ouroloop[verify]'"
            )

    def ask(self, request: bytes, timeout_seconds: float) -> dict[str, Any]:
        """The worker's reply, or {"kind": "timeout" | "died" | "raised", "error": ...}."""
        try:
            self.pipe.send_bytes(request)
        except OSError as error:
            return {"kind": "died", "error": f"the worker is gone: {error}"}
        return self._read(timeout_seconds)

    def kill(self) -> None:
        """End the process now; nothing of it is kept."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _read(self, timeout_seconds: float) -> dict[str, Any]:
        try:
            if not self.pipe.poll(timeout_seconds):
                return {
                    "kind": "timeout",
                    "error": f"no answer within {timeout_seconds:g} s; the worker was killed",
                }
            # A mebibyte at most: a hostile expression must not fill our memory through its result.
            reply = json.loads(self.pipe.recv_bytes(2**20))
        except (EOFError, OSError, ValueError) as error:
            return {
                "kind": "died",
                "error": (
                    f"the worker died ({type(error).__name__}): out of memory or CPU time, or a"
                    " crash"
                ),
            }
        return (
            reply
            if isinstance(reply, dict)
            else {"kind": "died", "error": "the worker answered nonsense"}
        )


def _serve(pipe: Connection, function: str, timeout_seconds: float, memory_bytes: int) -> NoReturn:
    """A worker's life: import, limit, then answer until the pipe closes."""
    module, _, name = function.partition(":")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        _reply(pipe, {"kind": "raised", "error": f"{type(error).__name__}: {error}"})
        raise SystemExit(0) from None
    # After the imports: sympy alone maps more than some limits would allow.
    _limit_memory(memory_bytes)
    _reply(pipe, {"result": "ready"})
    while True:
        try:
            args = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            raise SystemExit(0) from None
        _limit_cpu(timeout_seconds)
        try:
            answer = {"result": target(*args)}
            # Tried here, so that a result that is no JSON counts against the call, not the pipe.
            json.dumps(answer)
        except BaseException as error:  # math-verify's TimeoutException is a BaseException
            answer = {"kind": "raised", "error": f"{type(error).__name__}: {str(error)[:500]}"}
        _reply(pipe, answer)


def _reply(pipe: Connection, answer: dict[str, Any]) -> None:
    pipe.send_bytes(json.dumps(answer).encode())


def _limit_memory(memory_bytes: int) -> None:
    """Bound the address space where the system can (not on Windows; macOS ignores it)."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        # No core dump of four gigabytes for every text that exhausts its memory.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def _limit_cpu(seconds: float) -> None:
    """Let the process use `seconds` more of CPU time (rounded up), then the kernel ends it.

    Even if nobody watches any more.
    """
    try:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 2, hard)
        )
    except (ImportError, ValueError, OSError):
        pass
