"""Checkpoint folders that are refused, each with a reason, and those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_checkpoint import write, write_fake_checkpoint

from ouroloop.loop.engines.checkpoint import check_checkpoint, weight_files
from ouroloop.loop.errors import CheckpointError, UserError


def test_a_whole_checkpoint_is_accepted_and_named_after_its_last_two_folders(
    tmp_path: Path,
) -> None:
    found = check_checkpoint(write_fake_checkpoint(tmp_path / "003" / "checkpoint"))
    assert found.version == "003/checkpoint"
    assert not found.is_adapter
    assert found.weights == found.tokenizer == found.path


@pytest.mark.parametrize("stop_token", ["<eos>", {"content": "<eos>", "lstrip": False}, "a"])
def test_the_stop_token_may_be_written_in_either_form(tmp_path: Path, stop_token: object) -> None:
    assert (
        check_checkpoint(write_fake_checkpoint(tmp_path / "c", stop_token=stop_token)).path
        == tmp_path / "c"
    )


@pytest.mark.parametrize(
    ("stop_token", "message"),
    [(None, "no stop token"), ("<end>", "'<end>' is not in the tokenizer's vocabulary")],
)
def test_a_tokenizer_without_a_usable_stop_token_is_refused(
    tmp_path: Path, stop_token: object, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_checkpoint(write_fake_checkpoint(tmp_path / "c", stop_token=stop_token))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickle_weights_alone_are_refused_as_unsafe(tmp_path: Path, name: str) -> None:
    folder = write_fake_checkpoint(tmp_path / "c")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(
        CheckpointError, match=rf"only pickle weights \({name}\).*Expected model\*\.safetensors"
    ):
        check_checkpoint(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", r"no model\*\.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, message: str) -> None:
    folder = write_fake_checkpoint(tmp_path / "c")
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=message):
        check_checkpoint(folder)


def test_a_missing_folder_and_broken_json_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check_checkpoint(tmp_path / "nowhere")
    folder = write_fake_checkpoint(tmp_path / "c")
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        check_checkpoint(folder)


def test_an_adapter_points_to_its_model_and_uses_its_tokenizer(tmp_path: Path) -> None:
    base = write_fake_checkpoint(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write(adapter / "adapter_config.json", {"base_model_name_or_path": str(base)})
    with pytest.raises(CheckpointError, match=r"no adapter_model\*\.safetensors"):
        check_checkpoint(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    found = check_checkpoint(adapter)
    assert found.is_adapter
    assert (found.path, found.weights, found.tokenizer) == (adapter, base, base)
    write(adapter / "adapter_config.json", {"base_model_name_or_path": "someone/some-model"})
    with pytest.raises(CheckpointError, match="no local folder"):
        check_checkpoint(adapter)


def test_the_signature_ignores_who_saved_it_and_sees_sizes_and_tokenizers(tmp_path: Path) -> None:
    first = check_checkpoint(write_fake_checkpoint(tmp_path / "a"))
    second = write_fake_checkpoint(tmp_path / "b")
    write(
        second / "config.json",
        json.loads((second / "config.json").read_text())
        | {
            "transformers_version": "9",
            "dtype": "bfloat16",
        },
    )
    assert check_checkpoint(second).signature == first.signature
    assert (
        check_checkpoint(write_fake_checkpoint(tmp_path / "c", hidden=16)).signature
        != first.signature
    )
    write(second / "tokenizer.json", {"model": {"vocab": {"<eos>": 0, "b": 1}}})
    assert check_checkpoint(second).signature != first.signature


def test_weights_that_a_publisher_put_there_twice_count_once(tmp_path: Path) -> None:
    folder = write_fake_checkpoint(tmp_path / "c")
    plain = check_checkpoint(folder)
    (weights,) = weight_files(folder)
    (folder / "consolidated.safetensors").write_bytes(weights.read_bytes())
    found = check_checkpoint(folder)
    assert weight_files(folder) == [weights] and found.weight_bytes == plain.weight_bytes
    weights.unlink()
    assert [file.name for file in weight_files(folder)] == ["consolidated.safetensors"]
