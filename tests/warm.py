"""Trainers, engines and trackers that start warm: forked from a process that has the libraries.

Their imports (torch, TRL, vLLM, MLflow) cost 5 to 12 seconds of processor time a start, and the
slow tests start a hundred. Here each kind's libraries are imported once per pytest process, by a
parent that does nothing else; a start forks it, and runs the module as `python -m` would: the same
arguments, environment, folder, pipes and session, and a child of this process like any other. None
of ours is imported before the fork. What starts in another environment than the first, in a
subprocess of a test (`python -m ouroloop.loop run`), through accelerate, or where there is a GPU,
starts as it does for a user; so does everything with OUROLOOP_COLD=1.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import inspect
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

TORCH = ["torch", "transformers.models.auto.modeling_auto", "transformers.models.llama"]
LIBRARIES = {
    "trainer": [
        *TORCH,
        "transformers.trainer",
        "trl.trainer.sft_trainer",
        "trl.trainer.dpo_trainer",
        "peft",
        "datasets",
    ],
    "transformers": [*TORCH, "peft"],
    "vllm": [
        *TORCH,
        "vllm",
        "vllm.v1.engine.llm_engine",
        "vllm.v1.worker.cpu_worker",
        "compressed_tensors",
    ],
    "mlflow": ["mlflow", "mlflow.tracking", "pandas", "pyarrow.parquet", "scipy.stats"],
}
TRAINER, TRACKER = "ouroloop.loop.objectives.training", "ouroloop.loop.trackers.process"
CONVERTER = "ouroloop.loop.models.convert"
KINDS = {TRAINER: "trainer", TRACKER: "mlflow", CONVERTER: "transformers"}
# An engine's kind is in the first line that it reads, not in its command: tests have workers of
# their own (`stale_worker`) around the real libraries.
engine_kind: ContextVar[str] = ContextVar("engine_kind", default="")
# Variables that only our code reads, after the fork, and those that torch, vLLM and Ray set in a
# test that imports them. Where modules are looked for is set after the fork, too.
LATER = ("OUROLOOP_", "PYTEST_", "KMP_", "TORCHINDUCTOR_", "VLLM_LOGGING_LEVEL", "PYTHONPATH")
LATER += ("RAY_", "PYTHONBREAKPOINT")
# What a tracker sets before it imports MLflow, in a test that records a run in its own process.
LATER += ("MLFLOW_", "GIT_PYTHON_")
PR_SET_CHILD_SUBREAPER = 36


class Warm:
    """A process that has imported the libraries of one kind and forks for each start."""

    def __init__(self, kind: str, environment: dict[str, str]):
        self.environment = _lasting(environment)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno()), *LIBRARIES[kind]]
            self._process = COLD(
                command,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Fork; returns the new child's process id.

        The one who forks ends at once, and its child becomes this process's own.
        """
        with _adopting():
            socket.send_fds(self._ours, [json.dumps(request).encode()], descriptors)
            answer = self._ours.recv(100)
        if not answer:
            raise BrokenPipeError(f"the warm process ended with {self._process.wait()}")
        return int(answer)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """It ends when the socket does."""
        self._ours.close()
        self._process.wait()


@contextmanager
def _adopting() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _lasting(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(LATER)}


COLD = subprocess.Popen
_warm: dict[str, Warm] = {}
_lock = threading.Lock()


class Popen(COLD):
    """`subprocess.Popen`, by a fork of a warm process where there is one for the command."""

    def _execute_child(self, *given: Any) -> None:
        names = list(inspect.signature(COLD._execute_child).parameters)[1:]
        call = dict(zip(names, given, strict=True))
        environment = dict(os.environ if call["env"] is None else call["env"])
        with _lock:
            warm = _warm_for(call["args"], environment)
            if warm is None:
                super()._execute_child(*given)
                return
            request = {
                "arguments": call["args"][2:],
                "folder": os.fspath(call["cwd"] or os.getcwd()),
                "environment": environment,
                "session": call["start_new_session"],
            }
            pipes = (call["p2cread"], call["c2pwrite"], call["errwrite"])
            inherited = [own if fd == -1 else fd for own, fd in enumerate(pipes)]
            try:
                self.pid = warm.start(request, inherited)
            except OSError:
                # A test that kills whatever this process has started has killed the warm one too.
                warm = _warm.pop(_kind_of(call["args"]))
                warm.close()
                super()._execute_child(*given)
                return
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(call[end] for end in ends))


def warm_pids() -> set[int]:
    """The processes that wait for starts: children of this one that no test has started."""
    return {warm.pid for warm in _warm.values()}


def _kind_of(command: Any) -> str:
    """Which libraries a command needs; "" where it starts as any other."""
    if isinstance(command, str) or list(command[:2]) != [sys.executable, "-m"]:
        return ""
    kind = engine_kind.get() or KINDS.get(command[2], "")
    return kind if kind in LIBRARIES else ""


def _warm_for(command: Any, environment: dict[str, str]) -> Warm | None:
    """The warm process for this command; None where it starts as any other."""
    kind = _kind_of(command)
    if not kind:
        return None
    if kind not in _warm:
        _warm[kind] = Warm(kind, environment)
    # Libraries read their environment when they are imported: another one needs other imports.
    return _warm[kind] if _warm[kind].environment == _lasting(environment) else None


@contextmanager
def warm_starts() -> Iterator[None]:
    """Start trainers, engines and trackers warm."""
    from ouroloop.loop.engines.pipe import Pipe

    # The tests of the loop and those of the experiments both ask for it, for the whole session.
    is_begun = subprocess.Popen is Popen
    if is_begun or os.environ.get("OUROLOOP_COLD") or shutil.which("nvidia-smi"):
        yield
        return
    opened = Pipe.open

    async def open_as(worker: str, settings: Any, *rest: Any, **named: Any) -> Pipe:
        token = engine_kind.set(settings["kind"])
        try:
            return await opened(worker, settings, *rest, **named)
        finally:
            engine_kind.reset(token)

    Pipe.open, subprocess.Popen = open_as, Popen
    try:
        yield
    finally:
        Pipe.open, subprocess.Popen = opened, COLD
        for warm in _warm.values():
            warm.close()
        _warm.clear()


def _serve(requests: socket.socket) -> dict[str, Any]:
    """In the warm process: fork for each request; returns in the child alone."""
    while True:
        sent, descriptors, _, _ = socket.recv_fds(requests, 2**18, 3)
        if not sent:
            os._exit(0)
        forker = os.fork()
        if forker:
            os.waitpid(forker, 0)
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        forker = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == forker:
            time.sleep(0.0005)
        request: dict[str, Any] = json.loads(sent)
        if request["session"]:
            os.setsid()
        requests.send(str(os.getpid()).encode())
        requests.close()
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        return request


def _places(environment: Mapping[str, str]) -> list[str]:
    """Where PYTHONPATH has modules looked for."""
    return [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]


def _main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    # What the libraries hold is never garbage; the children then share its memory, too.
    gc.freeze()
    request = _serve(requests)
    before = _places(os.environ)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["arguments"]
    sys.argv = [module, *arguments]
    # As `python -m` has it, where a script has its own folder.
    rest = [place for place in sys.path[1:] if place not in before]
    sys.path[:] = [request["folder"], *_places(os.environ), *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
