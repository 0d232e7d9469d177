"""The files of the round at work: what they were when they were finished, and what is damaged.

A manifest is written when a round is committed. Until then files.jsonl lists every finished file of
the round with its size and SHA-256, in the order in which they were made. When a run is opened, a
file that is not as listed is set aside, with all that was made after it: those files may rest on
it. Nothing is deleted, and the round makes them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ouroloop.loop.folder import integrity
from ouroloop.loop.folder.integrity import EVENTS
from ouroloop.loop.folder.lines import proven, read_lines
from ouroloop.loop.folder.storage import naming, to_disk, write_text
from ouroloop.loop.folder.sums import ROUNDS, Check, Status, Sum, examine, sum_of

LEDGER = "files.jsonl"
JOURNAL = "answers.jsonl"
SAMPLES = "samples.jsonl"
# Files of a run outside its rounds that never change once they are made, and that no round can do
# without. They are made before round 0 ends, whose manifest lists them.
FROZEN = ("probe_set.json", "strategies.json", "clusters.json", "warm_start")
# What a training leaves is one thing: without one of its files the others are of no use.
WHOLE = (integrity.CHECKPOINT, "warm_start")
# In a round's folder; the last of them is written last.
TRAINED = ("job.json", integrity.CHECKPOINT, "train.json")


@dataclass(frozen=True)
class Repair:
    """What was done when a run was opened: for the event log and for people."""

    event: str
    files: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"{', '.join(self.files)}: {self.why}"


class Ledger:
    """The list of one round. Paths are relative to the run."""

    def __init__(self, run: Path, round_folder: Path) -> None:
        self.run, self.folder = run, round_folder
        self.path = round_folder / LEDGER
        self.sums = _sums_of(read_lines(self.path).good)

    def add(self, path: Path) -> None:
        """List a finished file; of a file that was made twice the last line counts."""
        file, found = str(path.relative_to(self.run)), sum_of(path)
        # Taken out first: the order is that in which the files were made.
        self.sums.pop(file, None)
        self.sums[file] = found
        append_line(self.path, _line(file, found))

    def add_new(self) -> list[str]:
        """List every finished file that is not listed yet; returns their names."""
        found = _finished(self.folder)
        # What is frozen is there by the end of round 0, and its manifest lists it.
        if int(self.folder.name) == 0:
            found += _frozen(self.run)
        new = [path for path in found if str(path.relative_to(self.run)) not in self.sums]
        for path in new:
            self.add(path)
        return [str(path.relative_to(self.run)) for path in new]

    def refuse_damaged(self) -> None:
        """Refuse to commit a file that is not what it was when it was finished.

        Raises:
            DamagedError: names it.
        """
        integrity.refuse_other_than(self.run, self.sums, integrity.is_small)

    def keep(self, files: Iterable[str]) -> None:
        """List these alone."""
        kept = {file: self.sums[file] for file in files}
        _rewrite(self.path, [_line(file, found) for file, found in kept.items()])
        self.sums = kept


def repair(run: Path) -> list[Repair]:
    """Make what is not committed whole again: the event log, and the round at work."""
    found = _repair_log(run)
    folders = integrity.round_folders(run)
    remove_temporary(run)
    if folders and not (folders[-1] / integrity.MANIFEST).exists():
        found += _repair_round(run, folders[-1])
    elif folders:
        # A kill came between the manifest and what goes with it.
        remove_working_files(folders[-1])
    return found


def remove_temporary(run: Path) -> None:
    """Remove what a killed process had not renamed yet, or had renamed in order to delete it."""
    # Those of the run's own folder are left: its trackers may still be at work there.
    for path in (run / ROUNDS).glob("*/.*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_working_files(folder: Path) -> None:
    """Remove what only a round at work needs: its manifest says all that the list said."""
    for name in (LEDGER, JOURNAL):
        (folder / name).unlink(missing_ok=True)


def identity(run: Path, checkpoint: Path, outside: Mapping[Path, str] | None = None) -> str:
    """What tells a checkpoint from every other one, without reading it.

    Of one that lies in the run: its place and the sums of its files as the run lists them. One from
    outside is frozen by its digest in RUN.json, which a resumed run compares: this digest, or its
    place where `outside` does not know it.
    """
    if not checkpoint.is_relative_to(run):
        return (outside or {}).get(checkpoint, str(checkpoint))
    place = checkpoint.relative_to(run)
    number = place.parts[1] if place.parts[0] == ROUNDS else "000"
    listed = Ledger(run, run / ROUNDS / number).sums | integrity.promised_with(run, checkpoint)
    files = sorted(file for file in listed if file.startswith(f"{place}/"))
    text = "\n".join(f"{file} {listed[file].sha256}" for file in files)
    return f"{place} {hashlib.sha256(text.encode()).hexdigest()}"


def open_round(run: Path) -> list[Check]:
    """The files of the round at work, compared with what they were when they were finished."""
    folders = integrity.round_folders(run)
    if not folders or (folders[-1] / integrity.MANIFEST).exists():
        return []
    folder, found = folders[-1], []
    ledger, journal = read_lines(folder / LEDGER), read_lines(folder / JOURNAL)
    for name, bad in ((LEDGER, ledger.first_bad), (JOURNAL, min(journal.damaged, default=None))):
        if bad is not None:
            file = str((folder / name).relative_to(run))
            found.append(Check(file, Status.CONTENT, "lines with checksums", f"line {bad} without"))
    if not ledger.good and _finished(folder):
        file = str((folder / LEDGER).relative_to(run))
        found.append(Check(file, Status.MISSING, "a list of the round's files", "nothing"))
    sums = Ledger(run, folder).sums
    return [*found, *(examine(run, file, wanted) for file, wanted in sums.items())]


def set_aside(path: Path) -> Path:
    """Rename a file or folder to the first free NAME.damaged-N; returns the new path."""
    aside = _free_name(path)
    path.rename(aside)
    return aside


def _copy_aside(path: Path) -> Path:
    """A copy of a damaged file, as `set_aside` names it; the file stays until it is replaced.

    A kill before that leaves it as damaged as it was, and the repair begins again.
    """
    aside = _free_name(path)
    with naming(aside):
        shutil.copyfile(path, aside)
    return aside


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _repair_log(run: Path) -> list[Repair]:
    path = run / EVENTS
    check = integrity.check_log(run, integrity.promises(run))
    if check.status is Status.OK:
        return []
    lines = read_lines(path)
    if path.exists():
        aside = _copy_aside(path)
    else:
        # Its mere presence says that the log is shorter than the manifests know.
        aside = path.with_name(f"{EVENTS}.damaged-1")
        aside.touch()
    _rewrite(path, [line.decode("utf-8") for line in lines.good])
    why = f"damaged ({check.got}); {len(lines.good)} lines go on, what it was is in {aside.name}"
    return [Repair("log_repaired", (EVENTS,), why)]


def _repair_round(run: Path, folder: Path) -> list[Repair]:
    """Set aside what is damaged and what was made after it, then list what is not listed."""
    lines = read_lines(folder / LEDGER)
    was_listed, bad_line = bool(lines.good), lines.first_bad
    ledger = Ledger(run, folder)
    why = ""
    if bad_line is not None:
        # Of what was listed from there on nothing is known: it may be whole, or not.
        why = f"line {bad_line} of {LEDGER} is damaged"
        ledger.sums = _sums_of(lines.good[: bad_line - 1])
    files = list(ledger.sums)
    checks = [examine(run, file, ledger.sums[file]) for file in files]
    bad = [number for number, check in enumerate(checks) if check.status is not Status.OK]
    suspects: list[str] = []
    if bad:
        why = why or str(checks[bad[0]])
        suspects = files[bad[0] :]
    if bad_line is not None:
        there = [str(path.relative_to(run)) for path in _finished(folder)]
        suspects += [file for file in there if file not in ledger.sums]
    if any(_is_trained(file) for file in suspects):
        suspects = list(dict.fromkeys([*suspects, *filter(_is_trained, files)]))
    found = _repair_journal(run, folder)
    moved = _set_all_aside(run, suspects)
    # Last: until it is replaced, a list that is damaged makes suspects of what it does not know.
    if (folder / LEDGER).exists() and (bad_line is not None or not was_listed):
        _copy_aside(folder / LEDGER)
    if why:
        ledger.keep(file for file in files if file not in suspects and (run / file).exists())
        found.append(Repair("set_aside", tuple(moved), why))
    partial = folder / SAMPLES
    if was_listed and partial.exists() and str(partial.relative_to(run)) not in ledger.sums:
        # Earlier versions wrote it sample by sample. A whole one that a kill left unlisted is made
        # again from the journal.
        set_aside(partial)
    new = ledger.add_new()
    if new and not was_listed:
        found.append(
            Repair("files_listed", tuple(new), f"taken as they are: no {LEDGER} was there")
        )
    return found


def _repair_journal(run: Path, folder: Path) -> list[Repair]:
    """Keep a damaged journal's whole lines: each of them is an answer that need not be asked again.

    It grows, so its lines alone vouch for it; a torn end is normal.
    """
    path = folder / JOURNAL
    lines = read_lines(path)
    if not lines.damaged:
        return []
    aside = _copy_aside(path)
    _rewrite(path, [line.decode("utf-8") for line in lines.good])
    why = f"{len(lines.good)} lines are whole and go on; what it was is in {aside.name}"
    return [Repair("set_aside", (str(path.relative_to(run)),), why)]


def _set_all_aside(run: Path, files: Iterable[str]) -> list[str]:
    """Set aside each file, or the whole folder of a training that it belongs to; returns which."""
    units = list(dict.fromkeys(_unit(file) for file in files))
    for unit in units:
        if (run / unit).exists():
            set_aside(run / unit)
    return units


def _unit(file: str) -> str:
    parts = file.split("/")
    for number, part in enumerate(parts[:-1]):
        if part in WHOLE:
            return "/".join(parts[: number + 1])
    return file


def _is_trained(file: str) -> bool:
    """Whether a file, relative to the run, is one that a round's training left."""
    place = file.split("/")
    return place[0] == ROUNDS and place[2] in TRAINED


def _finished(folder: Path) -> list[Path]:
    """The finished files of a round. Logs grow; they are the manifest's to list.

    What a training leaves is finished with its last file: until then it is made again, and need not
    become the same.
    """
    found = [path for path in files_of(folder) if path.suffix != ".log"]
    if (folder / TRAINED[-1]).exists():
        return found
    return [path for path in found if path.relative_to(folder).parts[0] not in TRAINED]


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that belong to a run, in order of name.

    Temporary files of a killed attempt, what was set aside, and what goes with the manifest do not.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if _belongs(path.relative_to(folder))]


def _belongs(path: Path) -> bool:
    if path.name in (integrity.MANIFEST, LEDGER, JOURNAL) or path.suffix == ".tmp":
        return False
    is_temporary = any(part.endswith(".tmp") for part in path.parts)
    return not is_temporary and not any(".damaged-" in part for part in path.parts)


def _frozen(run: Path) -> list[Path]:
    found: list[Path] = []
    for name in FROZEN:
        path = run / name
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += files_of(path)
    return found


def _sums_of(lines: Iterable[bytes]) -> dict[str, Sum]:
    sums: dict[str, Sum] = {}
    for line in lines:
        entry = json.loads(line)
        # Taken out first: the order is that in which the files were made, the last time.
        sums.pop(entry["file"], None)
        sums[entry["file"]] = Sum(entry["bytes"], entry["sha256"])
    return sums


def _line(file: str, found: Sum) -> str:
    return proven(json.dumps({"file": file, **asdict(found)}, separators=(",", ":")))


def append_line(path: Path, line: str) -> None:
    """Append one line in one write, after cutting off one that a kill cut short."""
    with naming(path), path.open("a+b") as file:
        end = file.tell()
        if end > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(f"{line}\n".encode())


def _rewrite(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
    to_disk(path.parent)
