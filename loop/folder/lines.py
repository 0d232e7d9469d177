"""JSON lines that prove themselves: each ends with a checksum of what stands before it.

    {"time":1.5,"event":"run_started","crc32":"0f3ac21b"}

A log or a journal grows until its round is committed, so no manifest can vouch for it before that.
A line that a kill cut short has no end, and is no damage: whoever appends next cuts it off.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

_MARK = re.compile(rb',"crc32":"([0-9a-f]{8})"\}$')


@dataclass(frozen=True)
class Lines:
    """The lines of a file.

    Attributes:
        good: those that prove themselves, without their line ends.
        damaged: numbers (from 1) of those that do not.
        torn: bytes after the last line end.
    """

    good: tuple[bytes, ...]
    damaged: tuple[int, ...]
    torn: int

    @property
    def first_bad(self) -> int | None:
        """The number of the first line that does not prove itself, one without an end included."""
        after_all = len(self.good) + len(self.damaged) + 1
        return min(self.damaged, default=after_all if self.torn else None)


def proven(line: str) -> str:
    """A JSON object on one line, with its checksum as the last key.

    Raises:
        ValueError: it is not a JSON object with at least one key.
    """
    if not line.endswith("}") or line == "{}" or "\n" in line:
        raise ValueError(f"expected a JSON object with keys on one line, got {line[:80]!r}")
    body = line[:-1]
    return f'{body},"crc32":"{zlib.crc32(body.encode("utf-8")):08x}"}}'


def is_proven(line: bytes) -> bool:
    """Whether a line is what `proven` made."""
    found = _MARK.search(line)
    return found is not None and zlib.crc32(line[: found.start()]) == int(found[1], 16)


def contradicts_itself(line: bytes) -> bool:
    """Whether a line carries a checksum that is not its own. Older versions wrote none."""
    return _MARK.search(line) is not None and not is_proven(line)


def read_lines(path: Path) -> Lines:
    """Every line of a file; one that is not there has none."""
    if not path.exists():
        return Lines((), (), 0)
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    # Split at line ends alone: a damaged byte may be one of the other separators.
    found = data[:end].split(b"\n")[:-1]
    good = tuple(line for line in found if is_proven(line))
    damaged = tuple(number for number, line in enumerate(found, 1) if not is_proven(line))
    return Lines(good, damaged, len(data) - end)
