"""Checkpoints from GGUF files, the format of llama.cpp: converted once, then kept.

Training and vLLM want safetensors and a tokenizer in files of its own. The conversion needs torch
and the `gguf` package, so it runs in a child process: see `convert`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.errors import CheckpointError, TrainingError
from ouroloop.loop.extras import require
from ouroloop.loop.folder.store import sha256_of
from ouroloop.loop.models.kept import log_path, made_once, say
from ouroloop.loop.models.names import GGUF_SUFFIX
from ouroloop.loop.objectives.child import run_child

# Raised when a conversion comes out otherwise than before: what is kept is then made anew.
FORM = 1
# A conversion is one call of a library, which gives no sign before its end.
CONVERSION_LIMITS = TimeLimits(start_s=4 * 3600.0)
# One model in several files: transformers reads only whole ones.
PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
# A tokenizer beside the GGUF is preferred to the one that can be rebuilt from it.
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def find_gguf(path: Path) -> Path | None:
    """The GGUF that a path leads to: the file itself, or the only one in a folder.

    A folder with a config.json is a checkpoint as it stands.

    Raises:
        CheckpointError: a folder with several, or one part of a file in parts.
    """
    if path.suffix == GGUF_SUFFIX and not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file. Expected the path of a GGUF file.")
        found = [path]
    elif path.is_dir() and not any((path / name).exists() for name in CHECKPOINT_FILES):
        found = sorted(path.glob(f"*{GGUF_SUFFIX}"))
    else:
        return None
    if any(PART.search(file.name) for file in found):
        raise CheckpointError(
            f"{found[0]}: a model in several GGUF files, which cannot be read. Join them first:"
            " llama-gguf-split --merge FIRST_PART WHOLE.gguf."
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:4])
        raise CheckpointError(
            f"{path}: {len(found)} GGUF files ({names}). Name one of them, path and all."
        )
    return found[0] if found else None


CHECKPOINT_FILES = ("config.json", "adapter_config.json")


def from_gguf(gguf: Path) -> Path:
    """The checkpoint's folder that this GGUF was, or now is, converted to.

    Raises:
        CheckpointError: it cannot be converted; what is wrong, and the remedy.
    """
    gguf = gguf.resolve()
    # Size and time of change stand for the content: hashing gigabytes at every start is too slow.
    read = [gguf, *(gguf.with_name(name) for name in TOKENIZERS)]
    facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in read if f.exists()]
    digest = hashlib.sha256(repr((FORM, facts)).encode()).hexdigest()[:12]
    return made_once(f"{gguf.stem}-{digest}", partial(_make, gguf, f"{gguf.stem}-{digest}"))


def _make(gguf: Path, name: str, folder: Path) -> Mapping[str, Any]:
    convert(gguf, folder, name)
    return {"source": str(gguf), "sha256": sha256_of(gguf)}


def convert(gguf: Path, folder: Path, name: str) -> None:
    """Write the checkpoint that a GGUF holds into an empty folder, in a child process.

    Raises:
        CheckpointError: it cannot be converted.
    """
    require("run", f"reading {gguf.name}")
    say(f"{gguf.name}: converting to safetensors, once (up to some minutes)")
    try:
        arguments = [str(gguf), str(folder)]
        run_child(
            "ouroloop.loop.models.convert", arguments, log_path(name), limits=CONVERSION_LIMITS
        )
    except TrainingError as error:
        raise CheckpointError(
            f"{gguf}: the conversion failed. It holds all weights in float32: see that there is"
            f" memory for it, or take the model's safetensors instead. {error}"
        ) from error
