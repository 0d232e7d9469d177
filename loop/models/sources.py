"""Where models come from: one table, in the order in which a name is looked up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ouroloop import evals
from ouroloop.evals import plugins
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models.gguf_files import find_gguf, from_gguf
from ouroloop.loop.models.hub import from_hub
from ouroloop.loop.models.names import BUILT_IN, EMBEDDED, PACKAGED, is_hub_name
from ouroloop.loop.models.package import from_package


def _embedded(name: str) -> Path | None:
    if name not in EMBEDDED:
        return None
    world, which = name.split("/")
    return Path(evals.__file__).parent / "worlds" / world / which


def _package(name: str) -> Path | None:
    return from_package(name) if name in PACKAGED else None


def _gguf(name: str) -> Path | None:
    found = find_gguf(Path(name))
    return None if found is None else from_gguf(found)


def _folder(name: str) -> Path | None:
    return Path(name) if Path(name).is_dir() else None


def _hub(name: str) -> Path | None:
    return from_hub(name) if is_hub_name(name) else None


# Each gives a checkpoint's folder, or None where the name is not of its kind. What lies on this
# machine comes before the hub.
SOURCES: tuple[Callable[[str], Path | None], ...] = (_embedded, _package, _gguf, _folder, _hub)


def resolve_model(name: str) -> Path:
    """The checkpoint's folder that a recipe's `model` or teacher stands for, fetched if need be.

    Args:
        name: a built-in name, the path of a folder or of a GGUF file, or a name of the hub.

    Raises:
        CheckpointError: there is none, or it cannot be had here; with the remedy.
    """
    for source in SOURCES:
        folder = source(name)
        if folder is not None:
            return folder
    hint = plugins.nearest(Path(name).name, BUILT_IN)
    raise CheckpointError(
        f"model: {name}: no such folder. Expected a checkpoint's folder, a .gguf file,"
        f" organisation/name of the model hub, or a built-in name. {hint}"
    )
