"""What is kept between runs, outside the repository: things that are dear to make again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def cache_root() -> Path:
    """The folder of all that is cached: $OUROLOOP_CACHE, or ~/.cache/ouroloop."""
    return Path(os.environ.get("OUROLOOP_CACHE", "~/.cache/ouroloop")).expanduser().resolve()


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a folder with the files of `source`: hard links where the disk allows it.

    The folder appears whole or not at all; where it exists already, it stays as it is.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copytree(source, temporary, copy_function=_link)
    try:
        temporary.rename(target)
    except OSError:
        # Another process was faster; its files are the same.
        shutil.rmtree(temporary)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one without hard links.
        shutil.copy2(source, target)
