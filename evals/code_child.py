"""Runs one program that nobody trusts, and its tests. A child process of `code_runner`.

Started by its path with `python -I`, so it imports nothing but the standard library. Reads one
JSON object from standard input: {"code", "calls", "checks", "token"}. Writes one back: the `repr`
of every call's value (the expected values are not known here, so they cannot be faked), and the
token once every check has passed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# What may be read outside the program's own folder: Python itself.
_READABLE = (sys.prefix, sys.base_prefix, sys.exec_prefix, "/dev/null", "/dev/urandom")
_REFUSED = (
    "socket.",
    "subprocess.",
    "os.fork",
    "os.posix_spawn",
    "os.exec",
    "os.system",
    "os.kill",
    "os.killpg",
    "_thread.start_new_thread",
    "_posixsubprocess.",
    "ctypes.",
    "pty.",
    "shutil.",
    "signal.pthread_kill",
    "gc.",
)
_ON_PATHS: tuple[str, ...] = (
    "open",
    "os.listdir",
    "os.scandir",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
)
_ON_PATHS += (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "os.chdir",
)
_MAX_REPR = 100_000


def guard(folder: str) -> None:
    """Refuse processes, threads, sockets, foreign code and paths outside the folder.

    An audit hook cannot be taken off again. It is a second line: the first is the namespace
    and the limits that the parent sets.
    """
    allowed = tuple(os.path.realpath(path) for path in (folder, *_READABLE))
    # Bound here: the program can reach this module's globals.
    realpath, refused, on_paths = os.path.realpath, _REFUSED, _ON_PATHS
    fsdecode, separator = os.fsdecode, os.sep

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")
        if event not in on_paths:
            return
        path = arguments[0]
        if isinstance(path, int) or path is None:
            return
        text = fsdecode(path)
        where = realpath(text)
        if not any(where == root or where.startswith(root + separator) for root in allowed):
            raise PermissionError(f"{event}: {text} is outside the program's own folder")
        # Python's own files may be read, and only read.
        is_writing = event != "open" or any(mark in str(arguments[1] or "r") for mark in "wax+")
        is_own = where == allowed[0] or where.startswith(allowed[0] + separator)
        is_listing = event in ("os.listdir", "os.scandir")
        if is_writing and not (is_listing or is_own or where == "/dev/null"):
            raise PermissionError(f"{event}: {text} may only be read")

    sys.addaudithook(refuse)


def main() -> None:
    """Run, and answer on a private copy of standard output."""
    task = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    write, dumps = os.write, json.dumps
    guard(os.getcwd())
    space: dict[str, Any] = {"__name__": "__main__"}
    answer: dict[str, Any] = {"values": [], "token": None, "error": None}
    try:
        exec(compile(task["code"], "program.py", "exec"), space)
        for call in task["calls"]:
            answer["values"].append(repr(eval(call, space))[:_MAX_REPR])
        for check in task["checks"]:
            exec(compile(check, "test", "exec"), space)
        answer["token"] = task["token"]
    except BaseException as error:
        answer["error"] = type(error).__name__
    write(out, dumps(answer).encode())
    # Threads, exit handlers and the like of the program get no turn.
    os._exit(0)


if __name__ == "__main__":
    main()
