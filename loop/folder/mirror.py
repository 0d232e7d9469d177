"""A run's copy on storage that other hosts reach: an object store, or any other that fsspec knows.

The run itself works in a local folder: its journal grows with every answer, which no object store
takes. Each commit is copied, manifests last, so the copy always is a run that was stopped right
after a round, and can be gone on with wherever it is fetched to. What was not committed is not
copied.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.errors import RunStateError, StorageError
from ouroloop.loop.folder import integrity, ledger
from ouroloop.loop.folder.lock import BEAT_SECONDS, LOCK, Holder
from ouroloop.loop.folder.sums import ROUNDS

# Upon each sign of life an object is written: less often than a local file.
BEATS_PER_SIGN = 2


def is_url(text: str) -> bool:
    """Whether it names a run on other storage, not a local folder."""
    return "://" in text


def mirror_of(recipe: Recipe) -> Mirror | None:
    """Where the run is copied to at each commit."""
    url = recipe.storage.url
    return Mirror(f"{url.rstrip('/')}/{recipe.name}") if url else None


class Mirror:
    """The copy of one run at URL/NAME."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._reaching():
            import fsspec

            self.files, self.root = fsspec.core.url_to_fs(self.url)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.url.rpartition("/")[2]

    def num_committed(self) -> int:
        """Finished rounds that are there."""
        return _num_committed_of(self._sizes())

    def try_writing(self) -> None:
        """Write a small file beside the run, and take it away again.

        Raises:
            StorageError: it cannot be reached or written to.
        """
        folder = self.root.rpartition("/")[0]
        # Of this process alone: other runs may be begun there at the same time.
        path = f"{folder}/.ouroloop-{os.getpid()}"
        with self._reaching():
            self.files.makedirs(folder, exist_ok=True)
            self.files.pipe_file(path, b"written to see whether it can be")
            self.files.rm_file(path)

    # -- who works on it ----------------------------------------------------------------

    @contextmanager
    def held(self, run: Path) -> Iterator[None]:
        """Mark the copy as worked on from here, with signs of life until the end.

        Raises:
            RunStateError: another host works on it, or went further than the local folder `run`.
        """
        self.refuse_held()
        there, here = self.num_committed(), _num_committed(run)
        if there > here:
            raise RunStateError(
                f"{run}: holds {here} finished rounds, its copy {self.url} {there}: another host"
                f" went on. Go on from there: `ouroloop resume {self.url}`."
            )
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEATS_PER_SIGN * BEAT_SECONDS):
                # One that is missed is made up for by the next.
                with suppress(StorageError):
                    self._write(LOCK, Holder.here().text)

        self._write(LOCK, Holder.here().text)
        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with suppress(StorageError):
                self._write(LOCK, "")

    def refuse_held(self) -> None:
        """Refuse a run that another host works on.

        Raises:
            RunStateError: names it.
        """
        with self._reaching():
            found = self.files.exists(f"{self.root}/{LOCK}")
            text = self.files.cat_file(f"{self.root}/{LOCK}").decode() if found else ""
        holder = Holder.read(text)
        # On this host the lock of the local folder decides.
        if holder is not None and not holder.is_here and holder.is_fresh:
            raise holder.refusal(self.url)

    # -- copying there ------------------------------------------------------------------

    def upload(self, run: Path) -> int:
        """Copy what is new since the last commit; how many files that were.

        Raises:
            StorageError: it cannot be reached or written to.
        """
        there, copied = self._sizes(), 0
        for path in _in_order(run):
            file = str(path.relative_to(run))
            # Logs grow, and a manifest changes when a checkpoint is pruned; all else stays.
            changes = path.name in (integrity.MANIFEST, integrity.EVENTS) or path.suffix == ".log"
            if not changes and there.get(file) == path.stat().st_size:
                continue
            with self._reaching():
                self.files.makedirs(f"{self.root}/{file}".rpartition("/")[0], exist_ok=True)
                self.files.put_file(str(path), f"{self.root}/{file}")
            copied += 1
        self._prune(run, there)
        return copied

    def _prune(self, run: Path, there: dict[str, int]) -> None:
        """Take away the checkpoints that the run has taken away itself."""
        for folder in integrity.round_folders(run):
            place = f"{ROUNDS}/{folder.name}/{integrity.CHECKPOINT}"
            gone = (folder / integrity.MANIFEST).exists() and not (run / place).exists()
            if gone and any(file.startswith(f"{place}/") for file in there):
                with self._reaching():
                    self.files.rm(f"{self.root}/{place}", recursive=True)

    # -- and back -----------------------------------------------------------------------

    def fetch(self, runs: Path) -> Path:
        """The run in a local folder, with every round that was committed anywhere.

        A local folder that holds as many rounds is gone on with as it is: it may have a journal.
        One that holds fewer is set aside, because another host went on meanwhile.

        Raises:
            RunStateError: there is no run, or another host works on it.
            StorageError: it cannot be reached.
        """
        self.refuse_held()
        there = self._sizes()
        if integrity.RUN not in there:
            raise RunStateError(f"{self.url}: no run here ({integrity.RUN} is missing).")
        path = runs / self.name
        if path.exists():
            if _num_committed(path) >= _num_committed_of(there):
                return path
            ledger.set_aside(path)
        # Whole before it has its name: a kill leaves no half of a run.
        temporary = runs / f".{self.name}.fetched.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for file in there:
            if _is_whole(file, there):
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                with self._reaching():
                    self.files.get_file(f"{self.root}/{file}", str(temporary / file))
        temporary.rename(path)
        return path

    # -- the storage --------------------------------------------------------------------

    def _sizes(self) -> dict[str, int]:
        """File, relative to the run -> its size there."""
        with self._reaching():
            # Several libraries keep what they listed before.
            self.files.invalidate_cache()
            found: dict[str, Any] = {}
            if self.files.exists(self.root):
                found = self.files.find(self.root, detail=True)
        start = len(self.files._strip_protocol(self.root).rstrip("/")) + 1
        sizes = {name[start:]: int(facts["size"] or 0) for name, facts in found.items()}
        self._refuse_outside(sizes)
        return sizes

    def _refuse_outside(self, files: Iterable[str]) -> None:
        """Refuse a copy that would be fetched past the run's folder.

        An object's name is any text: `../x` is no folder there, and would be one here.

        Raises:
            StorageError: names the object.
        """
        for file in files:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts:
                raise StorageError(
                    f"{self.url}: holds {file!r}, which would be a file outside the run's folder."
                    " No run has one: somebody else wrote it. Look at it, and take it away."
                )

    def _write(self, name: str, text: str) -> None:
        with self._reaching():
            self.files.makedirs(self.root, exist_ok=True)
            self.files.pipe_file(f"{self.root}/{name}", text.encode())

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Every storage has errors of its own: one sentence for all of them."""
        try:
            yield
        except Exception as error:
            raise StorageError(
                f"storage.url {self.url}: cannot be used ({type(error).__name__}: {error}). Check"
                " the address, its credentials, and that fsspec's package for it is installed"
                " (s3fs for s3://, gcsfs for gs://). The run's own folder is unharmed."
            ) from error


def _in_order(run: Path) -> list[Path]:
    """What is copied: the run's own files, then each round's, its manifest last."""
    files = [path for path in ledger.files_of(run) if path.name != LOCK]
    own = [path for path in files if path.relative_to(run).parts[0] != ROUNDS]
    for manifest in integrity.committed(run):
        own += [*ledger.files_of(manifest.parent), manifest]
    return own


def _is_whole(file: str, there: dict[str, int]) -> bool:
    """Whether it belongs to what was committed: of a round without manifest a part may be there."""
    parts = file.split("/")
    if parts[0] != ROUNDS:
        return file != LOCK
    return f"{ROUNDS}/{parts[1]}/{integrity.MANIFEST}" in there


def _num_committed(run: Path) -> int:
    return len(integrity.committed(run))


def _num_committed_of(there: dict[str, int]) -> int:
    return sum(file.endswith(f"/{integrity.MANIFEST}") for file in there)
