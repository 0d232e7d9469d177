"""What is installed, what would break, and the command that repairs it: `ouroloop doctor`.

`machine` collects the facts, `builds`, `packages` and `hardware` judge them, `findings` knows the
repairs. Imports none of the libraries that it judges; `deep=True` tries the imports, in child
processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict

from ouroloop.loop.doctor import builds, hardware, packages
from ouroloop.loop.doctor.findings import Finding, Status
from ouroloop.loop.doctor.machine import Machine, look

__all__ = ["CHECKS", "Finding", "Status", "diagnose", "main"]

# Facts in, findings out, in the order in which they are printed.
CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    builds.python,
    builds.torch,
    builds.vision,
    builds.vllm,
    packages.ranges,
    packages.duplicates,
    packages.lock,
    hardware.processor,
    hardware.number_type,
    hardware.room,
    packages.extras,
)


def diagnose(machine: Machine | None = None, deep: bool = False) -> list[Finding]:
    """Look at everything that is known to go wrong.

    Args:
        machine: The facts to judge; default: those of this machine.
        deep: Also import the heavy libraries, in a child process each (half a minute).
    """
    machine = machine or look()
    findings = [finding for check in CHECKS for finding in check(machine)]
    if deep:
        findings += hardware.imports()
    return findings


def main(as_json: bool = False, deep: bool = False) -> int:
    """Print the findings; returns the exit code: 1 when something would break, else 0."""
    findings = diagnose(deep=deep)
    broken = sum(finding.status == "fail" for finding in findings)
    if as_json:
        listed = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": not broken, "findings": listed}, indent=2))
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
    count = Counter(finding.status for finding in findings)
    total = f"{count['ok']} fine, {count['warn']} warnings, {count['fail']} would break"
    return "\n".join([*lines, "", total])
