"""What a run promises of its files, and whether it holds.

A committed round's MANIFEST.json lists the size and the SHA-256 of each of its files, and round 0's
also those of the run that no round changes; RUN.json does so for what was written before the first
round. Both are sealed: they end with the SHA-256 of their own text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import DamagedError, RunStateError
from ouroloop.loop.folder.lines import read_lines
from ouroloop.loop.folder.sums import (
    REMEDY,
    ROUNDS,
    Check,
    Status,
    Sum,
    damaged,
    examine,
    unseal,
)

MANIFEST = "MANIFEST.json"
# Written when a run is made: it marks the folder as a run, and lists what was written with it.
RUN = "RUN.json"
EVENTS = "events.jsonl"
CHECKPOINT = "checkpoint"
# A key of a manifest: which of its folders the run took away to make room.
PRUNED = "pruned"
# Another: when the round was committed, in Unix seconds.
COMMITTED = "time"
# Weights beyond this size are hashed when they are first used, not when a run is opened: a long
# run's checkpoints take minutes to read, and it goes on from one or two of them.
LARGE_BYTES = 64 * 2**20
# Files that are named in one message; `ouroloop verify` names them all.
MAX_NAMED = 5
# (bytes done, bytes in all)
Report = Callable[[int, int], None]


# -- a whole run ------------------------------------------------------------------


@dataclass(frozen=True)
class Promises:
    """What a run's manifests list, and what is wrong with the manifests themselves.

    Attributes:
        sums: file, relative to the run -> what it must be.
        damaged: manifests that are missing or not as they were written.
        log_bytes: the event log is at least this long.
        pruned: files that the run took away itself.
    """

    sums: Mapping[str, Sum]
    damaged: tuple[Check, ...]
    log_bytes: int = 0
    pruned: frozenset[str] = frozenset()


def promises(run: Path) -> Promises:
    """Read a run's manifests. One of an older version has no seal, and is taken as it is."""
    sums: dict[str, Sum] = {}
    bad: list[Check] = []
    log_bytes, pruned = 0, set[str]()
    manifests = committed(run) if is_older(run) else [run / RUN, *committed(run)]
    for path in manifests:
        file = str(path.relative_to(run))
        try:
            listed = read_manifest(path)
        except DamagedError as error:
            status = Status.CONTENT if path.exists() else Status.MISSING
            bad.append(Check(file, status, "a sealed manifest", _got(error)))
            continue
        log_bytes = max(log_bytes, int(listed.get("events_bytes", 0)))
        promised = dict(_promised_by(run, path))
        sums |= promised
        pruned |= {name for name in promised if _is_pruned(run, path, listed, name)}
    for folder in _uncommitted_but_finished(run):
        file = f"{ROUNDS}/{folder.name}/{MANIFEST}"
        bad.append(Check(file, Status.MISSING, "a sealed manifest", "no such file"))
    return Promises(sums, tuple(bad), log_bytes, frozenset(pruned))


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest; its seal is looked at in a run that has RUN.json, which came with the seals.

    Raises:
        DamagedError: it is not as it was written.
    """
    run = path.parent if path.name == RUN else path.parents[2]
    if path.name == RUN or (run / RUN).exists():
        return unseal(path)
    try:
        value = dict(json.loads(path.read_text(encoding="utf-8")))
        list(_sums(value, "files"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise damaged(path, "a JSON object that lists files", "something else") from None
    return value


def is_older(run: Path) -> bool:
    """Whether a version made the run that wrote neither RUN.json nor checksums of lines."""
    return not (run / RUN).exists() and not read_lines(run / EVENTS).good


def committed(run: Path) -> list[Path]:
    """The manifests of the rounds, in order."""
    found = [path for path in round_folders(run) if (path / MANIFEST).is_file()]
    return [path / MANIFEST for path in found]


def round_folders(run: Path) -> list[Path]:
    """The folders of the rounds, in order. Editors and file managers leave others beside them."""
    found = (path for path in (run / ROUNDS).glob("*") if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def verify(
    run: Path, hashing: Callable[[Sum], bool] = lambda wanted: True, report: Report | None = None
) -> Iterator[Check]:
    """Every file that the run promises, compared with its promise; damaged manifests first.

    Args:
        run: The run's folder.
        hashing: Whether a file is hashed; otherwise its size alone is compared.
        report: Progress in bytes.
    """
    found = promises(run)
    yield from found.damaged
    yield from (Check(file, Status.PRUNED) for file in found.sums if file in found.pruned)
    sums = {file: wanted for file, wanted in found.sums.items() if file not in found.pruned}
    total, done = sum(wanted.bytes for wanted in sums.values()), 0
    for file, wanted in sums.items():
        yield examine(run, file, wanted, hashing(wanted))
        done += wanted.bytes
        if report is not None:
            report(done, total)
    yield check_log(run, found)


def check_log(run: Path, found: Promises) -> Check:
    """The event log: it grows, so its lines prove themselves, and manifests know its length."""
    path = run / EVENTS
    if is_older(run):
        return Check(EVENTS, Status.OK)
    expected = f"at least {found.log_bytes:,} bytes of lines with their checksums"
    if not path.exists():
        return Check(EVENTS, Status.MISSING, expected, "no such file")
    # A log that was repaired is shorter than the manifests know; what it was stands beside it.
    was_repaired = any(run.glob(f"{EVENTS}.damaged-*"))
    size = path.stat().st_size
    if size == 0 or (size < found.log_bytes and not was_repaired):
        return Check(EVENTS, Status.SIZE, expected, f"{size:,} bytes")
    lines = read_lines(path)
    if lines.first_bad is not None:
        got = f"other lines, the first of them line {lines.first_bad}"
        return Check(EVENTS, Status.CONTENT, expected, got)
    return Check(EVENTS, Status.OK)


def refuse_damaged(run: Path) -> None:
    """Refuse to go on from what is not what was committed; nothing is changed.

    Large files are compared by their size alone; `refuse_damaged_checkpoint` hashes them once they
    are used. A checkpoint whose folder is gone was taken away to make room: the run goes on unless
    it needs it.

    Raises:
        DamagedError: names the files, what was expected and what was found.
    """
    small = verify(run, hashing=is_small)
    _refuse(run, [c for c in small if c.file != EVENTS and not _is_taken_away(run, c)])


def _is_taken_away(run: Path, check: Check) -> bool:
    folder, found, _ = check.file.partition(f"/{CHECKPOINT}/")
    return bool(found) and not (run / folder / CHECKPOINT).exists()


def _is_pruned(run: Path, manifest: Path, listed: Mapping[str, Any], file: str) -> bool:
    folders = [manifest.parent / name for name in listed.get(PRUNED, ())]
    # One that was put back is compared like every other.
    return any((run / file).is_relative_to(each) and not each.exists() for each in folders)


def is_small(wanted: Sum) -> bool:
    """Whether a file is hashed whenever a run is opened."""
    return wanted.bytes <= LARGE_BYTES


def refuse_other_than(
    run: Path, sums: Mapping[str, Sum], hashing: Callable[[Sum], bool] = lambda wanted: True
) -> None:
    """Refuse files that are not what these sums say.

    Raises:
        DamagedError: see `refuse_damaged`.
    """
    _refuse(run, [examine(run, file, wanted, hashing(wanted)) for file, wanted in sums.items()])


def refuse_damaged_checkpoint(run: Path, folder: Path) -> None:
    """Look for a checkpoint that lies in the run and hash its large files, before it is used.

    Raises:
        DamagedError: see `refuse_damaged`.
        RunStateError: it was pruned.
    """
    if not folder.is_relative_to(run):
        return
    manifest = folder.parent / MANIFEST
    if not folder.exists() and manifest.exists() and PRUNED in read_manifest(manifest):
        raise RunStateError(
            f"{folder}: was pruned after its round, as the recipe's `keep` says. Put it back from a"
            " copy of the run, or run again under another `name` with `keep: {last: all}`."
        )
    inside = f"{folder.relative_to(run)}/"
    promised = promised_with(run, folder).items()
    files = {file: wanted for file, wanted in promised if file.startswith(inside)}
    if folder.exists():
        # The small ones were hashed when the run was opened.
        files = {file: wanted for file, wanted in files.items() if not is_small(wanted)}
    refuse_other_than(run, files)


def _refuse(run: Path, checks: list[Check]) -> None:
    bad = [check for check in checks if check.is_damaged]
    if not bad:
        return
    lines = [str(check) for check in bad[:MAX_NAMED]]
    if len(bad) > MAX_NAMED:
        lines.append(f"and {len(bad) - MAX_NAMED} more")
    shown = "\n  ".join(lines)
    raise DamagedError(f"{run}: files of the run are damaged:\n  {shown}\n{REMEDY}")


def refuse_damaged_file(run: Path, path: Path) -> None:
    """Compare one file of a run with what was promised, before it is read.

    What no manifest lists is not looked at.

    Raises:
        DamagedError: it is not what was committed.
    """
    file = str(path.relative_to(run))
    wanted = promised_with(run, path).get(file)
    if wanted is not None:
        refuse_other_than(run, {file: wanted})


def promised_with(run: Path, path: Path) -> dict[str, Sum]:
    """What the manifest that is responsible for a path lists, relative to the run."""
    place = path.relative_to(run).parts
    number = place[1] if place[0] == ROUNDS else "000"
    sums: dict[str, Sum] = {}
    # Files of the run itself: those of its beginning, and those of round 0.
    if (run / RUN).exists() and place[0] != ROUNDS:
        sums |= dict(_sums(read_manifest(run / RUN), "run"))
    manifest = run / ROUNDS / number / MANIFEST
    if manifest.is_file():
        sums |= dict(_promised_by(run, manifest))
    return sums


def _promised_by(run: Path, manifest: Path) -> Iterator[tuple[str, Sum]]:
    listed = read_manifest(manifest)
    folder = manifest.parent.relative_to(run)
    yield from _sums(listed, "run")
    for file, wanted in _sums(listed, "files"):
        yield str(folder / file), wanted


def _sums(manifest: Mapping[str, Any], key: str) -> Iterator[tuple[str, Sum]]:
    for file, entry in manifest.get(key, {}).items():
        yield file, Sum(int(entry["bytes"]), str(entry["sha256"]))


def _uncommitted_but_finished(run: Path) -> list[Path]:
    """Folders of rounds whose manifest is missing although the round was committed.

    A later round exists, or the event log ends with its commit.
    """
    folders = round_folders(run)
    last_event: dict[int, str] = {}
    for line in read_lines(run / EVENTS).good:
        event = json.loads(line)
        if event["event"] in ("round_started", "round_committed"):
            last_event[event["round"]] = event["event"]
    found = []
    for folder in folders:
        is_finished = last_event.get(int(folder.name)) == "round_committed"
        if (is_finished or folder != folders[-1]) and not (folder / MANIFEST).exists():
            found.append(folder)
    return found


def _got(error: DamagedError) -> str:
    return str(error).partition(", got ")[2].partition(". ")[0]
