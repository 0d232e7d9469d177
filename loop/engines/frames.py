"""What comes through the pipe of an engine's child: one JSON object a line, or damage.

Nothing that a child writes may stop the reader: a reader that stops is a run that hangs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

# An answer begins with the number of its request, which is readable in one of any size.
HEAD_BYTES = 256
# It rests on `Worker.write`, which puts the id before everything else.
_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*(\d+)\s*,')


@dataclass(frozen=True)
class Oversized:
    """A line over the limit, thrown away. id: of the request that it answered, if readable."""

    id: int | None
    head: bytes


@dataclass(frozen=True)
class Garbled:
    """A line that is no JSON object. head: its beginning."""

    head: bytes


Frame = dict[str, Any] | Oversized | Garbled


async def frames(stream: asyncio.StreamReader) -> AsyncIterator[Frame]:
    """Every line of the stream to its end; the stream's own limit is that of a line."""
    while True:
        try:
            line = await stream.readuntil()
        except asyncio.IncompleteReadError as error:
            # The stream has ended. What is left has no line end: the child died while it wrote.
            if error.partial:
                yield Garbled(error.partial[:HEAD_BYTES])
            return
        except asyncio.LimitOverrunError:
            # Waits for nothing: the line is over the limit, so more than a head is in the buffer.
            head = await stream.readexactly(HEAD_BYTES)
            yield Oversized(_id_in(head), head)
            await _skip_line(stream)
            continue
        yield _parsed(line)


def _id_in(head: bytes) -> int | None:
    found = _ID.match(head)
    return int(found.group(1)) if found else None


async def _skip_line(stream: asyncio.StreamReader) -> None:
    """Read on to the end of the line, a piece at a time, and keep nothing of it."""
    while True:
        try:
            await stream.readuntil()
            return
        except asyncio.LimitOverrunError as error:
            # In these bytes there is no line end, so nothing of the next line is thrown away.
            await stream.readexactly(error.consumed)
        except asyncio.IncompleteReadError:
            return


def _parsed(line: bytes) -> Frame:
    try:
        found = json.loads(line)
    # Bytes that are no UTF-8 raise a ValueError, too many brackets a RecursionError.
    except (ValueError, RecursionError):
        return Garbled(line[:HEAD_BYTES])
    return found if isinstance(found, dict) else Garbled(line[:HEAD_BYTES])
