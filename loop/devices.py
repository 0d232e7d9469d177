"""What this machine computes with, and whether it is fast in bfloat16; read without torch.

A processor without bfloat16 units emulates them: measured on two cores with AVX2 alone, a matrix
product takes 500 times as long in bfloat16 as in float32. So the type is never a fixed default.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

# First compute capability with bfloat16 tensor cores (Ampere).
BFLOAT16_CAPABILITY = 8.0
# Flags of /proc/cpuinfo that stand for bfloat16 matrix products in hardware.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")


class FloatType(StrEnum):
    """A number type that weights are served or computed in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU. capability: CUDA compute capability; None where it could not be read."""

    name: str
    driver: str
    capability: float | None = None


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes: what there is, and what can still be had."""

    total: int
    free: int


@dataclass(frozen=True)
class Device:
    """What models run on here.

    fast: the fastest type that is safe for any model. why: half a sentence that names the device
    and what the choice rests on.
    """

    is_gpu: bool
    fast: FloatType
    why: str

    @property
    def emulates(self) -> bool:
        """Whether it computes in bfloat16 without units for it: many times as slowly."""
        return not self.is_gpu and self.fast is FloatType.FLOAT32


@cache
def this_device() -> Device:
    """The device of this machine: its first GPU where torch can use one, else the processor."""
    return device_of(gpus(), torch_cuda(), cpu_flags(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def device_of(
    found: tuple[Gpu, ...], cuda: str | None, flags: frozenset[str], visible: str | None
) -> Device:
    """The device that these facts describe.

    Args:
        found: GPUs that the driver lists.
        cuda: CUDA version that torch was built for; None: it cannot use a GPU.
        flags: the processor's.
        visible: CUDA_VISIBLE_DEVICES; "" and "-1" hide every GPU.
    """
    is_hidden = visible is not None and visible.strip() in ("", "-1")
    if found and cuda and not is_hidden:
        return _gpu_device(found)
    for flag in BFLOAT16_FLAGS:
        if flag in flags:
            return Device(False, FloatType.BFLOAT16, f"the processor has {flag}")
    missing = " nor ".join(BFLOAT16_FLAGS)
    return Device(False, FloatType.FLOAT32, f"the processor has neither {missing}")


def _gpu_device(found: tuple[Gpu, ...]) -> Device:
    # The weakest card decides: a model may be spread over all of them.
    weakest = min(found, key=lambda gpu: gpu.capability or 0.0)
    if weakest.capability is None:
        why = f"the compute capability of {weakest.name} could not be read"
        return Device(True, FloatType.FLOAT32, why)
    why = f"{weakest.name} has compute capability {weakest.capability}"
    if weakest.capability < BFLOAT16_CAPABILITY:
        why += f", and bfloat16 needs {BFLOAT16_CAPABILITY}"
        return Device(True, FloatType.FLOAT32, why)
    return Device(True, FloatType.BFLOAT16, why)


# -- what the machine says ----------------------------------------------------------


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that the driver lists; none where no driver answers."""
    rows = _ask_driver("name,driver_version,compute_cap")
    if not rows:
        # Drivers before 510 do not know compute_cap, and refuse the whole question.
        rows = [[*row, ""] for row in _ask_driver("name,driver_version")]
    return tuple(Gpu(name, driver, _number(capability)) for name, driver, capability in rows)


def _ask_driver(fields: str) -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    num = fields.count(",")
    lines = [line for line in done.stdout.splitlines() if line.count(",") >= num]
    # From the right: a card's name may hold a comma.
    return [[part.strip() for part in line.rsplit(",", num)] for line in lines]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def torch_cuda() -> str | None:
    """CUDA version that the installed torch was built for; None: a CPU build, or no torch.

    Its version file is read: a torch that does not fit the machine may not import at all.
    """
    for folder in sys.path:
        path = Path(folder, "torch", "version.py")
        if path.is_file():
            found = re.search(
                r"^cuda\b[^=]*= *'([\d.]+)'", path.read_text(encoding="utf-8"), re.MULTILINE
            )
            if found:
                return found[1]
            break  # a CPU build says `cuda = None`
    return None


def cpu_flags() -> frozenset[str]:
    """The processor's flags; none where /proc/cpuinfo cannot be read."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    if found is None:
        return frozenset()
    return frozenset(found[1].split())


def main_memory() -> Memory | None:
    """This machine's main memory, or a container's share of it; None where it does not say."""
    found = {
        name: int(value) * 1024
        for name, value in re.findall(r"^(\w+):\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    }
    if not {"MemTotal", "MemAvailable"} <= set(found):
        return None
    total, free = found["MemTotal"], found["MemAvailable"]
    # A container may use less than the machine has; its limit reads "max" when there is none.
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    used = _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        total, free = min(total, int(limit)), min(free, int(limit) - int(used))
    return Memory(total, free)


def _read(path: str) -> str:
    """A file of the system; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
