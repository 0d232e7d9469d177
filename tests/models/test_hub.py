"""Models of the hub: what the cache holds needs no network; without both the remedy is named."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from fake_checkpoint import write_fake_checkpoint
from huggingface_hub import constants, errors

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import hub
from ouroloop.loop.models.sources import resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(cache: Path, revision: str = "main") -> Path:
    """A fetched `org/tiny`, laid out as huggingface_hub does."""
    repository = cache / "models--org--tiny"
    folder = write_fake_checkpoint(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / revision).write_text(COMMIT)
    return folder


def test_a_snapshot_in_the_cache_is_used_without_asking(cache: Path) -> None:
    folder = snapshot(cache)
    assert resolve_model("org/tiny") == folder
    assert resolve_model(f"org/tiny@{COMMIT}") == folder


def test_a_revision_is_the_one_after_the_at(cache: Path) -> None:
    folder = snapshot(cache, revision="v2")
    assert resolve_model("org/tiny@v2") == folder
    with pytest.raises(CheckpointError, match="--revision v1 --local-dir"):
        resolve_model("org/tiny@v1")


def test_without_cache_and_hub_the_message_says_so_and_what_to_do() -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model("org/tiny")
    message = str(caught.value)
    assert message.startswith("model: org/tiny: no folder of that path, not in the hub's cache (")
    assert "hf download org/tiny --local-dir" in message and "HF_HUB_OFFLINE" in message
    assert caught.value.exit_code == 2


def test_a_snapshot_whose_download_was_cut_off_is_not_used(cache: Path) -> None:
    folder = snapshot(cache)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match="its download was cut off"):
        resolve_model("org/tiny")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"")
    assert resolve_model("org/tiny") == folder


def answer(status: int, code: str = "") -> httpx.Response:
    request = httpx.Request("GET", "http://hub.test/api/models/org/tiny")
    return httpx.Response(status, headers={"X-Error-Code": code}, request=request)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.RepositoryNotFoundError("401", response=answer(401)), "shows no such model"),
        (errors.GatedRepoError("403", response=answer(403)), "wants its terms accepted"),
        (errors.RevisionNotFoundError("404", response=answer(404)), "no revision 'v1'"),
        (errors.HfHubHTTPError("500", response=answer(500)), "no model hub answers"),
        (httpx.ConnectError("refused"), "no model hub answers"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_what_the_hub_refuses_is_one_message_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def refuse(*_: object, local_files_only: bool) -> Path:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_snapshot", refuse)
    with pytest.raises(CheckpointError, match=says):
        resolve_model("org/tiny@v1")


def test_a_hub_that_nobody_can_reach_is_asked_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 1 of this machine refuses at once.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CheckpointError, match="no model hub answers"):
        resolve_model("org/tiny")
