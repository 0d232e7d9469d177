"""Checkpoints of the model hub, through huggingface_hub and its own cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.extras import require
from ouroloop.loop.models.kept import say
from ouroloop.loop.models.names import HUB_NAME

# What a checkpoint needs, and no pickles, no other frameworks' weights, no code.
WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "spiece.model",
    "merges.txt",
    "vocab.txt",
)
# Other forms of the same weights: in folders of a repository (onnx/, original/), and Mistral's own.
UNWANTED = ("*/*", "consolidated*.safetensors")


def from_hub(name: str) -> Path:
    """The snapshot's folder of `organisation/name[@revision]`.

    What the cache holds is used as it is, without asking the hub: a run that is continued next
    month gets the same weights, and nothing needs a network. A revision pins it for everybody.

    Raises:
        CheckpointError: it is not in the cache and no hub answers, or the hub refuses.
    """
    require("run", f"model: {name}")
    matched = HUB_NAME.fullmatch(name)
    assert matched is not None
    repository, revision = matched["repository"], matched["revision"]
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    return _fetched(name, repository, revision)


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(repository, revision, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError):
        return None
    return folder if _is_whole(folder) else None


def _fetched(name: str, repository: str, revision: str | None) -> Path:
    import httpx
    from huggingface_hub import constants, errors

    if not constants.HF_HUB_OFFLINE:
        say(f"{name}: not in the hub's cache; asking the model hub")
    try:
        folder = _snapshot(repository, revision, local_files_only=False)
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"model: {name} wants its terms accepted. Accept them on its page, and set HF_TOKEN to"
            " a token of that account."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"model: {name}: the hub has {repository}, but no revision {revision!r} of it. Expected"
            " a branch, a tag or a commit after the @."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"model: {name}: no folder of that path, and the hub shows no such model. See how it is"
            " spelt; for a private one, set HF_TOKEN."
        ) from error
    # A missing snapshot while offline, a network that is down, a hub that is down.
    except (errors.LocalEntryNotFoundError, httpx.HTTPError, ConnectionError) as error:
        raise CheckpointError(_no_hub(name, repository, revision)) from error
    except OSError as error:
        raise CheckpointError(
            f"model: {name}: the hub's cache {constants.HF_HUB_CACHE} cannot be written ({error})."
            " Set HF_HOME to a folder with enough free space."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"model: {name} is no name that the hub takes: {error}") from error
    if not _is_whole(folder):
        raise CheckpointError(
            f"model: {name}: no whole weights in safetensors in {folder}. Either the model has none"
            " (choose another, or convert it), or its download was cut off: start again where the"
            " hub answers."
        )
    return folder


def _no_hub(name: str, repository: str, revision: str | None) -> str:
    from huggingface_hub import constants

    why = "no model hub answers"
    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE forbids asking the model hub"
    pinned = f" --revision {revision}" if revision else ""
    return (
        f"model: {name}: no folder of that path, not in the hub's cache"
        f" ({constants.HF_HUB_CACHE}), and {why}. Where one does, run `hf download"
        f" {repository}{pinned} --local-dir FOLDER`, bring FOLDER here and name its path as `model`"
        " (or set HF_ENDPOINT to a mirror); `model: smollm2-135m` needs no hub."
    )


def _snapshot(repository: str, revision: str | None, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    keywords: dict[str, Any] = {
        "allow_patterns": list(WANTED),
        "ignore_patterns": list(UNWANTED),
        "local_files_only": local_files_only,
    }
    return Path(snapshot_download(repository, revision=revision, **keywords))


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot has its weights: what somebody else fetched may be the tokenizer alone."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        shards = set(index["weight_map"].values())
    except FileNotFoundError:
        configs = ("config.json", "adapter_config.json")
        has_config = any((folder / config).exists() for config in configs)
        return has_config and any(folder.glob("*.safetensors"))
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / shard).exists() for shard in shards)
