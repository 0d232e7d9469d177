"""GGUF files: which one is meant, what it becomes, and what is refused with its remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_model import write_tiny_gguf

from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template, tensor_types
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import gguf_files
from ouroloop.loop.models.convert import _refuse_single_characters, _stored
from ouroloop.loop.models.shape import read_shape
from ouroloop.loop.models.sources import resolve_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUROLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


# ----- which file -----


def test_a_folder_with_one_gguf_and_the_file_itself_are_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    assert gguf_files.find_gguf(tmp_path) == tmp_path / "m.gguf"
    assert gguf_files.find_gguf(tmp_path / "m.gguf") == tmp_path / "m.gguf"


def test_a_checkpoint_that_has_a_gguf_beside_it_is_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    assert gguf_files.find_gguf(tmp_path) is None
    assert resolve_model(str(tmp_path)) == tmp_path


def test_of_several_files_one_must_be_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"2 GGUF files \(a.gguf, b.gguf\). Name one"):
        resolve_model(str(tmp_path))


def test_a_file_in_parts_must_be_joined_first(tmp_path: Path) -> None:
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(b"")
    with pytest.raises(CheckpointError, match="llama-gguf-split --merge"):
        resolve_model(str(tmp_path / "m-00001-of-00002.gguf"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        resolve_model(str(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    ("kinds", "stored"),
    [
        ({"F32"}, "float32"),
        ({"F16", "F32"}, "float16"),
        ({"BF16", "F32"}, "bfloat16"),
        ({"Q4_1", "Q8_0"}, "bfloat16"),
    ],
)
def test_matrices_keep_their_type_unless_they_are_quantised(kinds: set[str], stored: str) -> None:
    assert _stored(kinds) == stored


class Spelling:
    """A tokenizer of many words that splits a text into pieces of `width` characters."""

    def __init__(self, width: int) -> None:
        self.width = width

    def __len__(self) -> int:
        return 262_144

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": list(range(0, len(text), self.width))}


def test_a_tokenizer_that_lost_its_merges_is_refused() -> None:
    _refuse_single_characters(Path("m.gguf"), Spelling(width=3))
    with pytest.raises(CheckpointError, match=r"single characters.*tokenizer.json"):
        _refuse_single_characters(Path("m.gguf"), Spelling(width=1))


# ----- conversions, in their child process -----


@pytest.mark.slow
def test_a_gguf_becomes_a_checkpoint_once(tmp_path: Path, cache: Path) -> None:
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    folder = resolve_model(str(tmp_path / "tiny.gguf"))
    assert folder.parent == cache
    checkpoint = check_checkpoint(folder)
    shape = read_shape(checkpoint)
    assert (shape.architecture, shape.positions) == ("LlamaForCausalLM", 128)
    assert shape.vocabulary == shape.num_tokens == 267
    assert shape.stored == "F32" and has_chat_template(checkpoint)
    config = json.loads((folder / "config.json").read_text())
    assert config["eos_token_id"] == 2 and "quantization_config" not in config
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
    # The weights are the file's own.
    import gguf as library
    import numpy as np
    from safetensors.numpy import load_file

    stored = load_file(folder / "model.safetensors")
    written = {t.name: t.data for t in library.GGUFReader(gguf).tensors}
    assert np.array_equal(stored["model.embed_tokens.weight"], written["token_embd.weight"])
    assert np.array_equal(
        stored["model.layers.0.mlp.up_proj.weight"], written["blk.0.ffn_up.weight"]
    )
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(str(tmp_path)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    _a_tokenizer_beside_the_gguf_is_preferred(tmp_path / "beside", folder)


def _a_tokenizer_beside_the_gguf_is_preferred(beside: Path, made: Path) -> None:
    beside.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made / name, beside / name)
    write_tiny_gguf(beside / "mute.gguf", tokenizer=False)
    folder = resolve_model(str(beside))
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
    assert tensor_types(folder) == tensor_types(made)


@pytest.mark.slow
def test_what_cannot_be_converted_is_one_sentence_with_its_remedy(tmp_path: Path) -> None:
    cases = {
        "cut": "not a readable GGUF file",
        "mute": "no tokenizer in this GGUF. Put the model's tokenizer.json",
        "endless": "no stop token in this GGUF",
    }
    write_tiny_gguf(tmp_path / "mute.gguf", tokenizer=False)
    write_tiny_gguf(tmp_path / "endless.gguf", eos=None)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "mute.gguf").read_bytes()[:1000])
    for name, says in cases.items():
        with pytest.raises(CheckpointError) as caught:
            resolve_model(str(tmp_path / f"{name}.gguf"))
        assert says in str(caught.value), name
        assert "Traceback" not in str(caught.value) and caught.value.exit_code == 2
