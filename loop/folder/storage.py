"""Full disks and folders that cannot be written to: one sentence, with path and remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ouroloop.loop.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or name a folder on another disk",
    errno.EDQUOT: "the quota is used up. Free some space, or name a folder on another disk",
    errno.EFBIG: "no file may be so large here (`ulimit -f`). Raise it, or name another folder",
    errno.EIO: "the disk fails (an input/output error). See to it, or name another folder",
    errno.EROFS: "the file system is read-only. Make it writable, or name another folder",
    errno.ENOTDIR: "a part of the path is a file, and no folder. Name another folder",
    errno.EACCES: "this user has no permission. Change it, or name another folder",
    errno.EPERM: "this user has no permission. Change it, or name another folder",
}
_ANYWHERE = "a folder of the run"
# Libraries in other languages say it in words alone.
_WORDS = {
    os.strerror(number): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
}


def storage_error(error: BaseException, folder: Path | None = None) -> StorageError | None:
    """The sentence for an error of the disk; None where it is another error.

    Args:
        error: what was raised, whose causes are looked at too.
        folder: named where the error does not say which file it was.
    """
    at: BaseException | None = error
    while at is not None:
        number = at.errno if isinstance(at, OSError) else None
        if number not in _REMEDIES:
            number = next((n for words, n in _WORDS.items() if words in str(at)), None)
        if number is not None:
            where = getattr(at, "filename", None) or folder or _ANYWHERE
            return StorageError(
                f"{where}: cannot be used: {_REMEDIES[number]} ($OUROLOOP_RUNS or --runs). What"
                " was finished is kept: `ouroloop resume RUN` goes on from there."
            )
        at = at.__cause__ or at.__context__
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the disk say which file they were about; a write to an open file does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def to_disk(*paths: Path) -> None:
    """Wait until files, and the names in folders, are on the disk: a power cut keeps them.

    A file that was renamed may be lost with the power until its folder is on the disk as well.
    """
    for path in paths:
        with naming(path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            except OSError as error:
                # Some network file systems know no such thing for a folder.
                if error.errno != errno.EINVAL or not path.is_dir():
                    raise
            finally:
                os.close(descriptor)


class atomic:
    """A temporary sibling that becomes `path` when the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path, self.tmp = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        return self.tmp

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if kind is not None:
            self.tmp.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno is not None:
                error.filename = str(self.path)
            return
        # On disk before it is renamed: after a power cut the file is whole or not there.
        to_disk(self.tmp)
        self.tmp.replace(self.path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


@contextmanager
def writing(out: Path, option: str) -> Iterator[None]:
    """A file or folder that the user named and that cannot be written is one sentence.

    Args:
        out: the file or folder.
        option: what named it, such as `report --out`.

    Raises:
        StorageError: it is of the other kind, or cannot be made there.
    """
    try:
        yield
    except OSError as error:
        # Other files are read meanwhile: their errors are not about this one.
        if error.filename is not None and Path(error.filename) not in (out, *out.parents):
            raise
        raise StorageError(
            f"{option} {out}: cannot be written ({error.strerror or error}); expected a place that"
            " can be written to. Name another one."
        ) from None
