"""A headless Chromium, asked over a pipe what a page shows: its DevTools protocol.

A page that its scripts draw is there when it is there: it is looked at until it shows what is
expected, where a budget of virtual time (`--dump-dom`) may end before a busy server has answered.
"""

from __future__ import annotations

import html
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOM = "document.documentElement.outerHTML"
# Seconds between two looks at a page.
PAUSE = 0.5
NO_SESSION: Mapping[str, str] = {}


class Browser:
    """A tab for each page. Messages are JSON, each ended by a zero byte.

    Args:
        requests: file descriptor that Chromium reads from.
        answers: file descriptor that it writes to.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers, self._read, self._last = requests, answers, b"", 0

    def shown(self, address: str, *expected: str, seconds: float = 180) -> str:
        """What the page shows once all that is `expected` (patterns) is there, a line per element.

        Raises:
            AssertionError: something is not there in time; the page's end is quoted.
        """
        # A tab of its own: what another page showed is not there.
        target = self._call("Target.createTarget", url=address)["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        session, until = {"sessionId": attached["sessionId"]}, time.monotonic() + seconds
        while True:
            found = self._call("Runtime.evaluate", session, expression=DOM, returnByValue=True)
            # While one page gives way to the next there is none to ask.
            dom = found.get("result", {}).get("value", "")
            text = html.unescape(re.sub(r"<[^>]+>", "\n", dom))
            missing = [pattern for pattern in expected if not re.search(pattern, text)]
            if not missing:
                return text
            assert time.monotonic() < until, f"{address}: no {missing} in {text[-2000:]}"
            time.sleep(PAUSE)

    def _call(self, method: str, session: Mapping[str, str] = NO_SESSION, **params: Any) -> Any:
        """The result of a method; nothing where it failed."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params, **session}
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            # Events have no id.
            if answer.get("id") == self._last:
                return answer.get("result", {})

    def _next(self) -> bytes:
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], 60)[0], "Chromium is silent"
            part = os.read(self._answers, 1 << 20)
            assert part, "Chromium has ended"
            self._read += part
        first, _, self._read = self._read.partition(b"\0")
        return first


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """A Chromium with its profile in `folder`, until the end of the block."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    command += [f"--user-data-dir={folder}", "--window-size=1500,1500", "about:blank"]
    # It reads from descriptor 3 and writes to descriptor 4.
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with (folder.parent / "chromium.log").open("ab") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(60)
        os.close(ours_out)
        os.close(ours_in)
