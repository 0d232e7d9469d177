"""Runs programs that a model wrote against unit tests, in a process that can be killed.

What holds, from the strongest on. A limit on wall-clock time, CPU time, memory, files' size and
output always does (the last four where the system has resource limits). Where `unshare` may make
namespaces, the program has no network and no process of it outlives the test. Everywhere an audit
hook in the child refuses sockets, new processes, threads, foreign libraries and files outside its
folder; it stops what Python can do, not what a hole in Python's own C code can do. Run hostile
models in a container all the same.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import math
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("code_child.py")
_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
# Python takes a fraction of a second to start, on a busy machine more.
_START_SECONDS = 2.0
_MAX_PROGRAM = 100_000


@dataclass(frozen=True)
class Limits:
    """Of one run of a program."""

    seconds: float = 5.0
    memory_bytes: int = 2**30
    output_bytes: int = 2**20


@dataclass(frozen=True)
class Pair:
    """One test of a program that reads standard input and writes standard output."""

    stdin: str
    stdout: str


@dataclass(frozen=True)
class Outcome:
    """passed: every test did. reason: why not, in a word or two."""

    passed: bool
    reason: str


def run_tests(code: str, tests: Sequence[str | Pair], limits: Limits) -> Outcome:
    """Whether a program passes its tests: assert statements, or pairs of input and output."""
    if not tests:
        return Outcome(False, "no tests")
    if len(code) > _MAX_PROGRAM:
        return Outcome(False, "program too long")
    pairs = [test for test in tests if isinstance(test, Pair)]
    asserts = [test for test in tests if isinstance(test, str)]
    if asserts:
        outcome = _run_asserts(code, asserts, limits)
        if not outcome.passed:
            return outcome
    for pair in pairs:
        outcome = _run_pair(code, pair, limits)
        if not outcome.passed:
            return outcome
    return Outcome(True, "passed")


@functools.cache
def has_namespaces() -> bool:
    """Whether this system lets a program run without network, in a process space of its own."""
    if shutil.which("unshare") is None:
        return False
    try:
        done = subprocess.run([*_NAMESPACES, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _run_asserts(code: str, asserts: Sequence[str], limits: Limits) -> Outcome:
    calls: list[str] = []
    expected: list[Any] = []
    checks: list[str] = []
    for test in asserts:
        found = _equalities(test)
        if found is None:
            checks.append(test)
            continue
        for call, value in found:
            calls.append(call)
            expected.append(value)
    token = secrets.token_hex(16)
    task = {"code": code, "calls": calls, "checks": checks, "token": token}
    raw, reason = _run([sys.executable, "-I", str(CHILD)], json.dumps(task).encode(), limits)
    if reason:
        return Outcome(False, reason)
    try:
        answer = json.loads(raw)
        values = [ast.literal_eval(value) for value in answer["values"]]
        error = answer["error"]
        is_complete = answer["token"] == token and len(values) == len(expected)
    # A value that is no literal, nested too deeply, or an answer of the program's own making.
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Outcome(False, "unreadable result")
    if error is not None:
        return Outcome(False, str(error)[:80])
    if not is_complete:
        return Outcome(False, "did not finish")
    if all(_same(value, wanted) for value, wanted in zip(values, expected, strict=True)):
        return Outcome(True, "passed")
    return Outcome(False, "AssertionError")


def _equalities(test: str) -> list[tuple[str, Any]] | None:
    """(call, expected value) of every assert, where all are of the form `assert call == literal`.

    The parent compares these itself; the program never sees what is expected.
    """
    try:
        body = ast.parse(test).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = []
    for statement in body:
        compared = statement.test if isinstance(statement, ast.Assert) else None
        is_equality = isinstance(compared, ast.Compare) and (
            len(compared.ops) == 1 and isinstance(compared.ops[0], ast.Eq)
        )
        if not is_equality:
            return None
        assert isinstance(compared, ast.Compare)
        try:
            value = ast.literal_eval(compared.comparators[0])
        except (ValueError, TypeError, SyntaxError):
            return None
        found.append((ast.unparse(compared.left), value))
    return found or None


def _same(value: Any, wanted: Any) -> bool:
    """Python's own equality, and NaN equals NaN: both sides are literals."""
    if isinstance(value, float) and isinstance(wanted, float) and math.isnan(value):
        return math.isnan(wanted)
    return bool(value == wanted)


def _run_pair(code: str, pair: Pair, limits: Limits) -> Outcome:
    # The guard first, then the program as a script of its own; its input is the test's.
    starter = (
        f"import runpy, sys; sys.dont_write_bytecode = True;"
        f" guard = runpy.run_path({str(CHILD)!r})['guard']; import os; guard(os.getcwd());"
        " runpy.run_path('program.py', run_name='__main__')"
    )
    raw, reason = _run([sys.executable, "-I", "-c", starter], pair.stdin.encode(), limits, code)
    if reason:
        return Outcome(False, reason)
    got = [line.rstrip() for line in raw.decode(errors="replace").rstrip().splitlines()]
    wanted = [line.rstrip() for line in pair.stdout.rstrip().splitlines()]
    return Outcome(got == wanted, "passed" if got == wanted else "wrong output")


def _run(
    command: Sequence[str], stdin: bytes, limits: Limits, program: str | None = None
) -> tuple[bytes, str]:
    """(standard output, why it is not to be used: "" when it is)."""
    with tempfile.TemporaryDirectory(prefix="ouroloop-code-", ignore_cleanup_errors=True) as folder:
        if program is not None:
            text = program.encode("utf-8", "replace")
            (Path(folder) / "program.py").write_bytes(text)
        (Path(folder) / "input").write_bytes(stdin)
        prefix = _NAMESPACES if has_namespaces() else ()
        with open(Path(folder) / "input", "rb") as given:
            process = subprocess.Popen(
                [*prefix, *command],
                cwd=folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": folder, "LANG": "C.UTF-8"},
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=functools.partial(_limit, limits),
            )
        try:
            return _read(process, limits)
        finally:
            # The whole group: the namespace's first process takes everything in it along.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(process: subprocess.Popen[bytes], limits: Limits) -> tuple[bytes, str]:
    """What it writes, up to the limits."""
    assert process.stdout is not None
    end = time.monotonic() + limits.seconds + _START_SECONDS
    parts: list[bytes] = []
    size = 0
    with process.stdout as pipe, selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while True:
            left = end - time.monotonic()
            if left <= 0 or not ready.select(left):
                return b"", "timeout"
            part = os.read(pipe.fileno(), 65_536)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > limits.output_bytes:
                return b"", "too much output"
        try:
            code = process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return b"", "timeout"
    return b"".join(parts), "" if code == 0 else "crashed"


def _limit(limits: Limits) -> None:
    """In the child, before the program starts."""
    import resource

    seconds = math.ceil(limits.seconds) + 1
    wanted = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    for which, most in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (most, most))
