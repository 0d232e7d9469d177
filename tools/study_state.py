"""Carry a study between machines that keep nothing: what a resume needs, in parts.

    python tools/study_state.py pack FOLDER PARTS     FOLDER -> PARTS/state.tar.000, ... + sha256
    python tools/study_state.py join PARTS FOLDER     the other way; refuses a part that differs
    python tools/study_state.py pack-model MODEL PARTS    a checkpoint's folder, whole

FOLDER is a study's folder of runs (runs/studies/NAME). Of a run that is under way it takes all
tables and journals, and of the weights the newest committed round's and the best one's: training
goes on from the first, a rollback returns to the second. Of a finished run (its small table is
there) it takes no weights at all. Parts are smaller than 64 MiB, which is what many ways of copying
files allow.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ouroloop.loop.folder.integrity import CHECKPOINT, MANIFEST
from ouroloop.loop.folder.sums import ROUNDS
from ouroloop.loop.views.reader import read_run

PART_BYTES = 60 * 2**20
SUMS = "sha256.json"
STATE = "state.tar"
# What engines and workers leave and nobody reads again.
LEFT_OUT = (".log", ".lock", ".tmp")


class StateError(Exception):
    """The parts are not what was packed."""


def essential(folder: Path) -> list[Path]:
    """The files that a resume on another machine needs, in order of name."""
    dropped = set(_unneeded_checkpoints(folder))
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path
        for path in files
        if not path.name.endswith(LEFT_OUT) and not dropped.intersection(path.parents)
    ]


def _unneeded_checkpoints(folder: Path) -> Iterator[Path]:
    for run in sorted(path.parent for path in folder.glob("*/recipe.json")):
        rounds = run / ROUNDS
        committed = [path.parent for path in sorted(rounds.glob(f"*/{MANIFEST}"))]
        kept: set[Path] = set()
        is_finished = (folder / "tables" / f"{run.name}.csv").exists()
        if committed and not is_finished:
            # Of a round that trained nothing: the checkpoint that it started from.
            found = read_run(run)
            numbers = (found.rounds[-1].number, found.best_round)
            kept = {path for path in map(found.checkpoint, numbers) if path is not None}
        # An open round's checkpoint is written last of its training: half of one is made again.
        for checkpoint in rounds.glob(f"*/{CHECKPOINT}"):
            if checkpoint not in kept:
                yield checkpoint


def pack(folder: Path, parts: Path, files: list[Path]) -> list[Path]:
    """Write `files` of `folder` as numbered parts with their sums; returns the parts.

    Whatever an earlier call left in `parts` goes first.
    """
    parts.mkdir(parents=True, exist_ok=True)
    for old in (*parts.glob(f"{STATE}.*"), parts / SUMS):
        old.unlink(missing_ok=True)
    whole = parts / STATE
    with tarfile.open(whole, "w") as tar:
        for path in files:
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    written = []
    with whole.open("rb") as source:
        while block := source.read(PART_BYTES):
            written.append(parts / f"{STATE}.{len(written):03d}")
            written[-1].write_bytes(block)
    whole.unlink()
    sums = {path.name: _sha256(path) for path in written}
    (parts / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    return written


def join(parts: Path, folder: Path) -> int:
    """Unpack the parts into `folder`; returns the number of files.

    Raises:
        StateError: a part is missing or differs from what was packed.
    """
    try:
        sums = json.loads((parts / SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateError(f"{parts}: no {SUMS}; expected the parts that `pack` wrote.") from None
    for name, wanted in sums.items():
        if not (parts / name).exists():
            raise StateError(f"{parts / name}: missing; {len(sums)} parts are needed. Copy it too.")
        if _sha256(parts / name) != wanted:
            raise StateError(f"{parts / name}: not as it was packed (sha256). Copy it again.")
    whole = parts / STATE
    with whole.open("wb") as out:
        for name in sums:
            out.write((parts / name).read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(whole) as tar:
        # The filter refuses paths that lead out of the folder.
        tar.extractall(folder, filter="data")
        num_files = len(tar.getnames())
    whole.unlink()
    return num_files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Entry point: 0, or 2 with one sentence where the parts cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pack", "pack-model", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    if given.what == "join":
        try:
            print(f"{join(given.source, given.target)} files in {given.target}")
        except StateError as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    files = essential(given.source)
    if given.what == "pack-model":
        files = [path for path in sorted(given.source.rglob("*")) if path.is_file()]
    written = pack(given.source, given.target, files)
    print(f"{len(files)} files in {len(written)} parts in {given.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
