"""Whether the installed versions fit each other, the lock file, and the extras in use."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from ouroloop.loop.doctor.builds import VISION
from ouroloop.loop.doctor.findings import Finding, Status, installed_as, reinstall, specification
from ouroloop.loop.doctor.machine import Machine
from ouroloop.loop.extras import MODULES

# Distributions whose newest release is often too new for another one: each gets its own line.
RANGED = ("transformers", "vllm", "pyarrow")

# Longer lists of packages are cut: the fix is one command for all of them.
MAX_LISTED = 5


def ranges(machine: Machine) -> Iterator[Finding]:
    """What every installed distribution asks for, compared with what is installed."""
    asked: dict[str, list[str]] = {}
    unmet: dict[str, list[str]] = {}
    for by, wanted in machine.requirements():
        name = installed_as(wanted.name, machine)
        version = machine.version(name)
        line = f"{by} asks for {wanted.specifier or 'it'}"
        if wanted.specifier:
            asked.setdefault(name, []).append(line)
        if version is None:
            # `vision` judges these three, and their absence is no fault.
            is_met = name in VISION
        else:
            is_met = wanted.specifier.contains(version, prereleases=True)
        if not is_met:
            unmet.setdefault(name, []).append(line)
    ranged = [installed_as(name, machine) for name in RANGED]
    for name in (*ranged, *sorted(set(unmet) - set(ranged))):
        version = machine.version(name)
        if name in unmet:
            ours = name in ranged or any(line.startswith("ouroloop ") for line in unmet[name])
            # What only strangers ask for may break a stranger; it is worth a warning.
            status: Status = "fail" if ours else "warn"
            what = f"{version or 'not installed'}; {', '.join(unmet[name])}"
            yield Finding(name, status, what, reinstall(machine, name))
        elif version:
            who = ", ".join(asked.get(name, ["nobody asks for a version"]))
            yield Finding(name, "ok", f"{version}; {who}")


def duplicates(machine: Machine) -> Iterator[Finding]:
    """Distributions with more than one version in one environment."""
    double = {name: found for name, found in machine.versions.items() if len(found) > 1}
    for name, found in double.items():
        what = f"installed {len(found)} times ({', '.join(found)}): a broken update"
        fix = f"{machine.pip} uninstall -y {name} && {reinstall(machine, name)}"
        yield Finding(name, "fail", what, fix)
    if not double:
        yield Finding("duplicates", "ok", "every distribution is installed once")


def lock(machine: Machine) -> Iterator[Finding]:
    """How far the environment is from the checkout's lock file."""
    locked = machine.locks.get(machine.device)
    if locked is None:
        yield Finding("lock", "ok", "no lock file beside this installation")
        return
    file = f"requirements/{machine.device}.lock"
    differing = []
    for name, version in locked.items():
        installed = machine.version(name)
        # torch's build (2.13.0+cpu) is not in the lock: the index decides on it.
        if (installed or "").split("+")[0] != version:
            differing.append(f"{name} {installed or 'missing'} (lock: {version})")
    if not differing:
        yield Finding("lock", "ok", f"all {len(locked)} packages as in {file}")
        return
    shown = ", ".join(differing[:MAX_LISTED])
    if len(differing) > MAX_LISTED:
        shown += ", ..."
    what = f"{len(differing)} of {len(locked)} packages differ from {file}: {shown}"
    yield Finding("lock", "warn", what, reinstall(machine))


def extras(machine: Machine) -> Iterator[Finding]:
    """Which optional parts of Ouroloop can be used here."""
    for extra, modules in MODULES.items():
        names = [canonicalize_name(module) for module in modules]
        missing = [name for name in names if not machine.version(name)]
        label = f"extra {extra}"
        if not missing:
            yield Finding(label, "ok", f"{', '.join(names)} installed")
            continue
        wanted = [shlex.quote(specification(machine, name, extra)) for name in missing]
        fix = f"{machine.pip} install {' '.join(wanted)}"
        if len(missing) == len(names):
            what = f"optional, not installed: {', '.join(missing)}"
            yield Finding(label, "ok", what, fix)
        else:
            # pip does not record which extras were asked for. Half of one is most often a broken
            # installation, and sometimes somebody else's torch: a warning says enough for both.
            what = f"only in part; not installed: {', '.join(missing)}"
            yield Finding(label, "warn", what, fix)
