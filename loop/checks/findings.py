"""What `ouroloop run RECIPE --check` says of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. An error is what no round could be trained with: exit code 2."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: How bad it is.
        about: What was looked at, in a word or two.
        what: A sentence with the numbers, and with the remedy where one is needed.
    """

    level: Level
    about: str
    what: str


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each."""
    level_width = max(len(finding.level) for finding in findings)
    width = max(len(finding.about) for finding in findings)
    return "\n".join(
        f"{finding.level:<{level_width}}  {finding.about:<{width}}  {finding.what}"
        for finding in findings
    )
